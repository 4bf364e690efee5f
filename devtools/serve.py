"""Opens ComfyUI with this pack for a browser, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys

from devtools.server import HostFailed, development_host, stop_on_terminate
from devtools.templates.start import ADDRESS, offer_start


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py comfy", description=__doc__)
    parser.add_argument("--port", type=int, default=8188, help="where it is taken, a free one is used")
    options = parser.parse_args()
    stop_on_terminate()
    print("starting ComfyUI ...", flush=True)
    try:
        host = development_host(options.port)
        offer_start(host.base)
        with host:
            print(f"ComfyUI with this pack: {host.url}\nfirst template: {host.url}{ADDRESS}", flush=True)
            print(f"log: {host.log_file}\nCtrl-C stops it", flush=True)
            return host.process.wait()
    except KeyboardInterrupt:
        return 0
    except HostFailed as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
