"""Trains a model the way RecBole's users know it: `python run_recbole.py --model=NCL_OT --dataset=ml-100k`."""

import sys

from recmodels import cli

if __name__ == "__main__":
    sys.exit(cli.main(["train", *sys.argv[1:]]))
