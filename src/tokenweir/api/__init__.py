"""The HTTP API of ``tokenweir serve``; the only package that uses FastAPI and uvicorn, which the extra `serve` has."""
