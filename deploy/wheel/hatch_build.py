"""Puts the built binary into the wheel, which is then one for its platform."""

import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Binary(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["tag"] = f"py3-none-{os.environ['PLATFORM']}"
        build_data["shared_scripts"][os.environ["BINARY"]] = "bearerd"
        build_data["sbom_files"].append(os.environ["DEPENDENCIES"])
