"""The cache of images: manager, matcher, indexes, image store and eviction."""
