"""What a user calls: the classes, their arguments and outputs, loading, saving and changing a model.

The mathematics is in :mod:`minizha.nezha`. Read call, inputs, arguments, outputs; nezha, pretraining,
fine_tuning, generation; initialisation, base, loading, adapting, pretrained, auto.
"""
