# syntax=docker/dockerfile:1
# What trains, and what runs Airflow's tasks, which count tokens with swift's own templates: everything, on CUDA.
# CUDA with its compiler: DeepSpeed and Triton build kernels when they are first used. The interpreter is the one
# of the Airflow image, since Ubuntu's own is another version than the lock was made and tested with.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04
FROM ${PYTHON_IMAGE} AS python
FROM ${CUDA_IMAGE}

ARG MEDLLM_UID=10001
ARG MEDLLM_GID=10001
# Packages beside the lock, such as "liger-kernel" or "flash-attn --no-build-isolation", which some recipes name.
ARG EXTRA_PACKAGES=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DS_BUILD_OPS=0 \
    DO_NOT_TRACK=1 \
    MEDLLM_HOME=/srv/medllm \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/medllm/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/medllm/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False

# The libraries that the copied interpreter was linked with; the line below them fails where one is missing.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates libbz2-1.0 libexpat1 libffi8 libgdbm6t64 liblzma5 libncursesw6 libreadline8t64 libsqlite3-0 \
        libssl3t64 libuuid1 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=python /usr/local /usr/local
RUN ldconfig && python3.11 -c 'import bz2, ctypes, lzma, readline, sqlite3, ssl, uuid, zlib'

# Ubuntu's own user 1000 stays what it is. A volume that is new takes the owner of the folder it is mounted on.
RUN groupadd --gid "${MEDLLM_GID}" medllm \
    && useradd --uid "${MEDLLM_UID}" --gid medllm --create-home medllm \
    && install --directory --owner=medllm --group=medllm "${MEDLLM_HOME}" "${AIRFLOW_HOME}" "${AIRFLOW_HOME}/logs"

WORKDIR /opt/medllm
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY plugins/medllm_ops/__init__.py plugins/medllm_ops/__init__.py
RUN python3.11 -m pip install --constraint requirements.txt '.[control,train]'
RUN if [ -n "${EXTRA_PACKAGES}" ]; then \
        python3.11 -m pip install --constraint requirements.txt ${EXTRA_PACKAGES}; \
    fi

COPY plugins plugins
COPY dags dags
COPY include include
COPY docker/healthy.py docker/login.py docker/
RUN python3.11 -m pip install --no-deps --editable . \
    && python3.11 -m pip check \
    && python3.11 -c 'import torch; assert torch.version.cuda, "this torch was built without CUDA"' \
    && medllm-ops --help >/dev/null

USER medllm
CMD ["medllm-ops", "trainer"]
