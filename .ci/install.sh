#!/bin/sh
# Make a bare Debian machine able to run the checks: installs what is missing and fetches the broker's jars.
# Says nothing when all is there. Needs root only when something has to be installed.
set -eu
cd "$(dirname "$0")/.."

missing=""
need() { # need COMMAND PACKAGE...: ask for the packages when the command is not there
    command -v "$1" >/dev/null 2>&1 && return
    shift
    missing="$missing $*"
}
need java openjdk-17-jre-headless
need mvn maven
need git git
need git-lfs git-lfs
need svn subversion
need ip iproute2
need cc gcc libc6-dev
need make make
{ python3 -c "import ensurepip" && /usr/bin/python3 -c "import ensurepip"; } 2>/dev/null || missing="$missing python3 python3-venv"
need systemd-analyze systemd
need mpirun openmpi-bin
need mpiexec.hydra mpich
need srun slurm-client
need slurmctld slurmctld
need slurmd slurmd
need munged munge
# A build for CPUs, 150 MB; its torchrun is started with the Python of the tests.
need torchrun python3-torch

if [ -n "$missing" ]; then
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Word splitting is wanted: one word a package.
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

# Accelerate for the tests of launchers, over that torch: 40 MB, 6 s. Its test is left out where it is not there.
if [ ! -x build/launchers/bin/accelerate ]; then
    /usr/bin/python3 -m venv --system-site-packages build/launchers
    build/launchers/bin/pip install -q --disable-pip-version-check "accelerate==1.2.1" "huggingface-hub==0.26.5"
fi

make -s kafka-jars
