"""Why two traces differ: their array is computed again, from their inputs, with each known mistake.

Read facts, facts_in, rules, backward_rules; forward, backward; catalogue, and the mistakes themselves
in positions, attention, layers, heads, gradients; case, diagnose.
"""

from minizha.crosscheck.diagnosis import attention, gradients, heads, layers, positions
from minizha.crosscheck.diagnosis.catalogue import CATALOGUE, Mistake, mistakes
from minizha.crosscheck.diagnosis.diagnose import Diagnosis, diagnose, mistaken

_CATALOGUE_FILES = (positions, attention, layers, heads, gradients)

__all__ = ["CATALOGUE", "Diagnosis", "Mistake", "diagnose", "mistaken", "mistakes"]
