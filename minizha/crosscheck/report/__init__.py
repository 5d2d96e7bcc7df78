"""A comparison for people and programs: text, JSON, a page with pictures.

Read words, page, plain, text; style, heat, chart, html; report.
"""
