# The command line in an image, for a CPU:
#
#   docker build -t lm-eval-trust .
#   docker run --rm -v "$PWD:/data" -v lm-eval-trust-cache:/cache lm-eval-trust demo --out demo-out
#
# For a GPU build with --build-arg TORCH_INDEX=https://pypi.org/simple and run with --gpus all.
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=openai
WORKDIR /src
COPY . .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt \
        --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
RUN useradd --create-home user && mkdir /cache /data && chown user /cache /data
ENV PATH="/opt/venv/bin:$PATH" \
    HF_HOME=/cache/huggingface \
    LM_EVAL_TRUST_CACHE=/cache/lm_eval_trust \
    TOKENIZERS_PARALLELISM=false
USER user
WORKDIR /data
VOLUME ["/cache"]
ENTRYPOINT ["lm-eval-trust"]
