"""From the committed results, `docs/measured/*.json`, to the tables and pictures of the documentation.

Whatever stands in a page between `<!-- measured: NAME -->` and `<!-- end -->` is made here; a test holds pages and
pictures against the results.
"""
