"""Graph recommenders on RecBole: contrastive learning, optimal transport, adaptive embedding tables."""

__version__ = "0.1.0"
