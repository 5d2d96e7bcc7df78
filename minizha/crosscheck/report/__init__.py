"""The report of a comparison as text, as JSON and as an HTML page with pictures.

Read words, page, plain, text; style, heat, chart, html; report.
"""
