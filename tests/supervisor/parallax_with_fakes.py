"""The command `parallax`, whose children are the fakes of this directory."""

from __future__ import annotations

import sys
from pathlib import Path

from proxy.cli.main import main
from proxy.supervisor import crew

HERE = Path(__file__).parent

crew.WORKER = (sys.executable, "-P", str(HERE / "fake_worker.py"), "proxy.net.worker")
crew.ANALYST = (sys.executable, "-P", str(HERE / "fake_analyst.py"), "proxy.analyst")

if __name__ == "__main__":
    main()
