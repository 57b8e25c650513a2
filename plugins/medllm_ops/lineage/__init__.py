"""From a record to the models that saw it: runs, models and services on top of what datasets and corpus know."""
