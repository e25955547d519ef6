"""Seconds and memory of the models, beside RecBole's own classes and over growing graphs.

`make bench` trains our models and RecBole's on the same data in alternating epochs; `make bench-scale` takes steps on
synthetic graphs of growing size. Neither is part of the package.
"""
