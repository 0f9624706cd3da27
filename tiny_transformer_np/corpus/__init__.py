"""Text and token ids on disk: documents read from files, shards of ids written and read, files of other trainers."""
