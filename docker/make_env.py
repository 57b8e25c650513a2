"""Write ``.env`` for the compose file, with new secrets: ``python3 docker/make_env.py``. Python's own library only.

Takes every line of ``.env.example``, and fills in the secrets, which are empty there. A file that exists is left alone.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def word() -> str:
    """A secret that may stand in an address."""
    return secrets.token_urlsafe(32)


def fernet_key() -> str:
    """A key as the Fernet specification wants it: 32 bytes in URL-safe base 64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


SECRETS: dict[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": word,
    "REDIS_PASSWORD": word,
    "AIRFLOW_PASSWORD": word,
    "AIRFLOW_FERNET_KEY": fernet_key,
    "AIRFLOW_JWT_SECRET": word,
    "AIRFLOW_SECRET_KEY": word,
}


def filled(example: str) -> str:
    """The example with new secrets.

    :raises ValueError: if a secret has no line of its own in it, or one that is not empty.
    """
    lines = example.splitlines()
    for name, make in SECRETS.items():
        if lines.count(f"{name}=") != 1:
            raise ValueError(f".env.example needs one line `{name}=` with nothing behind it")
        lines[lines.index(f"{name}=")] = f"{name}={make()}"
    return "\n".join(lines) + "\n"


def main(folder: Path = CHECKOUT) -> str | None:
    """Write the file; return what is wrong, or None."""
    path = folder / ".env"
    try:
        text = filled((folder / ".env.example").read_text(encoding="utf-8"))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return f"{path} is there already: its secrets belong to the database; edit it, or move it away"
    except (OSError, ValueError) as error:
        return str(error)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {path}; user and password of Airflow's page are AIRFLOW_USER and AIRFLOW_PASSWORD in it")
    return None


if __name__ == "__main__":
    if wrong := main():
        sys.exit(f"error: {wrong}")
