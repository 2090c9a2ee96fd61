"""What each group of cases needs to have installed, and how it is got."""

import os
import shutil
import subprocess
import sys

# Debian packages by group, each with a program that tells whether it is there.
DEBIAN = {
    "parallel": {"parallel": "parallel"},
    "slurm": {"slurmctld": "slurm-wlm", "munged": "munge"},
}
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def install(groups):
    """Gets what is missing, where that is possible."""
    wanted = {package for group in groups for program, package in DEBIAN.get(group, {}).items()
              if not shutil.which(program, path=PATH)}
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *sorted(wanted)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    elif wanted:
        print(f"to be installed by apt-get: {' '.join(sorted(wanted))}")
