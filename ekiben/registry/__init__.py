"""Versions: the BentoML model store, and aliases. Importing it loads neither BentoML nor SQLAlchemy."""

from ekiben.registry.bento import BentoRegistry
from ekiben.registry.folder import FolderRegistry
from ekiben.registry.opening import open_registry
from ekiben.registry.reference import CHALLENGER, CHAMPION, LATEST
from ekiben.registry.store import Registry, Version
from ekiben.registry.trust import LoadPolicy

__all__ = ["CHALLENGER", "CHAMPION", "LATEST", "BentoRegistry", "FolderRegistry", "LoadPolicy", "Registry", "Version", "open_registry"]
