#!/bin/sh
# rustdoc that may write JSON, which is no stable format. For rustdoc alone:
# with RUSTC_BOOTSTRAP set for cargo, build scripts of dependencies find another
# compiler than without, and everything is compiled again.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
