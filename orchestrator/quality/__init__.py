"""What may be wrong with data, computed from arrays: duplicates, leakage, class balance, label noise. Pure.

duplicates.py    equal rows by digest, near-equal images by perceptual hash
label_noise.py   confident learning, the rate of wrong labels, the noise floor
findings.py      what was found, as records with a status
"""
