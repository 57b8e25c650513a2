"""Start a command with Airflow's one login taken out of the environment: ``login.py COMMAND ARGUMENT…``.

Airflow's simple auth manager reads passwords from a file. The file is written here, readable by its owner alone and in
a folder that the compose file keeps in memory, from ``MEDLLM_AIRFLOW_PASSWORD``, which the command does not inherit.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

USERS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"
FILE = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
PASSWORD = "MEDLLM_AIRFLOW_PASSWORD"
SHORTEST = 12


def write_login() -> str | None:
    """Write the file; return what is wrong, or None."""
    users = [user.partition(":")[0] for user in os.environ.get(USERS, "").split(",")]
    password = os.environ.pop(PASSWORD, "")
    if len(users) != 1 or not users[0]:
        return f"{USERS} names {len(users)} users: this file takes one, such as admin:ADMIN"
    if len(password) < SHORTEST:
        return f"{PASSWORD} has {len(password)} characters: it needs {SHORTEST}; docker/make_env.py makes one"
    path = Path(os.environ[FILE])
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({users[0]: password}, file)
    return None


if __name__ == "__main__":
    if wrong := write_login():
        sys.exit(f"error: {wrong}")
    os.execvp(sys.argv[1], sys.argv[1:])
