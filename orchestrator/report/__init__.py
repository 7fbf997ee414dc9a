"""What a reviewer reads: `figures` as PNG and SVG, `markdown` for MLflow and the terminal, `page` as one HTML file.

Nothing is imported here, because matplotlib takes most of a second and the terminal's table needs none of it.
"""
