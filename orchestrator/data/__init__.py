"""From a source to rows every worker reads: the same rows everywhere, in an order of which every fraction is a prefix.

rows.py         what a source of rows is            formats/      the sources there are
preparing/      a source becomes a prepared folder  findings/     what is wrong with its rows
manifest.py     what a prepared folder says         splits.py, decoded.py, images.py   reading it
prepared.py     the door: `prepare` in the driver, `open_prepared` in the workers
stores/         where bytes lie                     versioning/   which data it was
"""
