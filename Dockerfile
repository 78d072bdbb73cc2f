# The package and its exports on a CPU; docs/howto/docker.md shows how to build and use it.
FROM python:3.12-slim-bookworm AS build

# An index with builds of torch and torchvision for the CPU, as named by https://pytorch.org/get-started/locally/;
# without it they come from PyPI, with CUDA's libraries.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN python -m venv /opt/deepsad \
  && /opt/deepsad/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.11" "torchvision>=0.26"

WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY deepsad_pl deepsad_pl
COPY hydra_plugins hydra_plugins
RUN /opt/deepsad/bin/pip install ".[export]"

FROM python:3.12-slim-bookworm

COPY --from=build /opt/deepsad /opt/deepsad
ENV PATH="/opt/deepsad/bin:$PATH" PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 deepsad && mkdir /workspace && chown deepsad:deepsad /workspace
USER 1000
WORKDIR /workspace
CMD ["deepsad-train", "--help"]
