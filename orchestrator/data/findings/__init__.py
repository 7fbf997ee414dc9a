"""What is wrong with prepared rows: `look` is the story, `labels` judges labels by a model, `store` keeps both."""
