"""Graph recommenders on RecBole: contrastive learning, optimal transport, adaptive embedding tables."""

import os

__version__ = "0.1.0"

# MKL otherwise falls back to one thread for a while when it takes the machine for busy, and matrix products then need
# half again as long. It reads the variable at its first product, so this is early enough after `import torch` too.
os.environ.setdefault("MKL_DYNAMIC", "FALSE")
