"""The YAML layers: `overall.yaml`, `model/`, `dataset/`, `ablation/`. Read with importlib.resources."""
