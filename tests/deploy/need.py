"""What each group of cases needs, and how to install it."""

import importlib.util
import os
import shutil
import subprocess
import sys

# The `RuntimeDefault` profile.
SECCOMP = "/usr/share/containers/seccomp.json"
# Debian packages by group, each with a program or file that shows whether it is installed.
DEBIAN = {
    "parallel": {"parallel": "parallel"},
    "container": {"runc": "runc", "musl-gcc": "musl-tools", SECCOMP: "golang-github-containers-common"},
    "systemd": {"systemd-analyze": "systemd", "systemd-nspawn": "systemd-container"},
    "monitoring": {"promtool": "prometheus"},
    "packages": {"lintian": "lintian", "rpm": "rpm", "musl-gcc": "musl-tools"},
    "slurm": {"slurmctld": "slurm-wlm", "munged": "munge"},
}
# PyPI packages by group, with their import names. They are installed below `target`.
PYTHON = {"kubernetes": {"kubernetes_validate": "kubernetes-validate"}}
PYTHON["monitoring"] = {"yaml": "PyYAML"}
PYTHON["container"] = PYTHON["kubernetes"]
# Crates by group, built quickly rather than for speed.
CARGO = {"packages": {"cargo-deb": "cargo-deb@3.8.0", "cargo-generate-rpm": "cargo-generate-rpm@0.21.1"}}
STATIC = {"container", "packages"}
STATIC_TARGET = "x86_64-unknown-linux-musl"
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def is_there(program):
    return shutil.which(program, path=PATH) or (program.startswith("/") and os.path.exists(program))


def install(groups, python_folder):
    """Installs what is missing, if possible."""
    modules = {package for group in groups for module, package in PYTHON.get(group, {}).items()
               if not importlib.util.find_spec(module)}
    if modules:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", python_folder, *sorted(modules)]
        subprocess.run(command, check=False)
        importlib.invalidate_caches()
    wanted = {package for group in groups for program, package in DEBIAN.get(group, {}).items()
              if not is_there(program)}
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *sorted(wanted)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    elif wanted:
        print(f"to be installed by apt-get: {' '.join(sorted(wanted))}")
    for program, package in ((program, package) for group in groups for program, package in CARGO.get(group, {}).items()):
        if not is_there(program):
            subprocess.run(["cargo", "install", "--quiet", "--locked", "--debug", package], check=False)
    if groups & STATIC and is_there("musl-gcc"):
        build_static()


def build_static():
    """A static debug build; the linking is tested, not the speed."""
    targets = subprocess.run(["rustup", "target", "list", "--installed"], stdout=subprocess.PIPE, text=True, check=False)
    if STATIC_TARGET not in targets.stdout:
        subprocess.run(["rustup", "target", "add", STATIC_TARGET], check=False)
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--target", STATIC_TARGET], check=False)
