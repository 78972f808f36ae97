"""``python -m napari_llm4seg.cli`` is ``llm4seg``."""

from napari_llm4seg.cli import main

if __name__ == "__main__":
    main()
