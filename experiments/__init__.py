"""The paper's experiments: data, errors planted in them, models, training, one script a figure."""
