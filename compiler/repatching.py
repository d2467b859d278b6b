"""A push of a compiled file offers the patches that the store knows now, as a push of a plan does.

The file may have been compiled without a store, or before `tidegate patch` ran.
"""

from collections import ChainMap
from dataclasses import replace

from compiler.carried_plan import read_plan
from compiler.image import Image, relay_image
from compiler.patching.catalogue import patched_apps, read_catalogue
from compiler.storage.store import Store


def repatch(image: Image, store: Store) -> Image:
    """Compile an image's apps again whose patches are not those that the store knows.

    Raises PlanError when this compiler no longer accepts such an app; StoreError, FormatError.
    """
    tree, blob = image.tree, image.blobs.__getitem__
    apps = (patched_apps(store) | tree["patches"].keys()) & tree["apps"].keys()
    patches = read_catalogue(store, read_plan(tree, blob, apps)) if apps else {}
    relaid = relay_image(image.contents, tree, blob, tree["overrides"], patches=patches)
    return replace(relaid, blobs=ChainMap(relaid.blobs, image.blobs))
