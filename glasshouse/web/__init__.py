"""The page and its JSON: one process on 127.0.0.1 that reads a workspace, and runs its model when asked to.

from glasshouse.web import serve
serve(Workspace.open(), open_browser=True)
"""

from glasshouse.web.server import create_app, serve

__all__ = ["create_app", "serve"]
