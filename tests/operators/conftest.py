from servers.cluster_fixtures import configure, home, server

__all__ = ["configure", "home", "server"]
