"""Networks people use, tried one by one: what of them is pruned, whether rightly, beside Torch-Pruning."""
