"""Publication: images to epochs, in the store and in Redis; history, revert, restore, gc."""
