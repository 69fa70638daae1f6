"""What `dagster dev` and the daemon load: one location, from the settings of the environment."""

import dagster as dg


@dg.definitions
def definitions() -> dg.Definitions:
    """The one Definitions object. Imports inside, so that naming this module costs nothing."""
    from orders_platform.defs.location import build_location
    from orders_platform.defs.resources.platform import Platform
    from orders_platform.settings import load

    return build_location(Platform(load()))
