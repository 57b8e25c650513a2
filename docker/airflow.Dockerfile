# syntax=docker/dockerfile:1
# Airflow's services that run no task: the `control` extra, no torch, no swift.
# Not the official Airflow image: that one comes with providers of its own versions, and here the lock decides.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}

ARG MEDLLM_UID=10001
ARG MEDLLM_GID=10001
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MEDLLM_HOME=/srv/medllm \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/medllm/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/medllm/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False

# A volume that is new takes the owner of the folder it is mounted on.
RUN groupadd --gid "${MEDLLM_GID}" medllm \
    && useradd --uid "${MEDLLM_UID}" --gid medllm --create-home medllm \
    && install --directory --owner=medllm --group=medllm "${MEDLLM_HOME}" "${AIRFLOW_HOME}" "${AIRFLOW_HOME}/logs"

WORKDIR /opt/medllm
# What is installed depends on these alone, so that a change of code makes no new layer of packages.
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY plugins/medllm_ops/__init__.py plugins/medllm_ops/__init__.py
RUN python -m pip install --constraint requirements.txt '.[control]'

COPY plugins plugins
COPY dags dags
COPY include include
COPY docker/healthy.py docker/login.py docker/
RUN python -m pip install --no-deps --editable . \
    && python -m pip check \
    && ! python -c 'import torch' 2>/dev/null \
    && medllm-ops --help >/dev/null

USER medllm
CMD ["airflow", "version"]
