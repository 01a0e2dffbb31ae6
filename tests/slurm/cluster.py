"""A SLURM cluster of several nodes on this machine: munged, slurmctld and one slurmd per node, all on loopback.

Needs root and Debian's packages, which are installed where apt can.  Everything lives in one folder; only processes
that were started here are ever ended.  The configuration is linked to /etc/slurm/slurm.conf, since job steps started by
the executor plugin do not keep SLURM_CONF.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
LINK = Path("/etc/slurm/slurm.conf")
PORT = 28817

CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=3600
SlurmdTimeout=15
ReturnToService=2
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory={memory}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """Why there can be no cluster here."""


class Cluster:
    """Started when made; `stop` ends it.

    Parameters
    ----------
    folder : Path
        Short: sockets are in it.
    nodes, cpus, memory : int
        Number of nodes, CPUs and megabytes that each claims to have.
    """

    def __init__(self, folder: Path, nodes: int = 3, cpus: int = 2, memory: int = 16000):
        self.folder = folder
        self.processes: dict[str, subprocess.Popen] = {}
        _install()
        (folder / "state").mkdir(parents=True)
        names = [f"n{k + 1}" for k in range(nodes)]
        host = os.uname().nodename.split(".")[0]
        ports = {"port": PORT, "first": PORT + 1, "last": PORT + nodes}
        text = CONFIGURATION.format(folder=folder, nodes=nodes, host=host, cpus=cpus, memory=memory, **ports)
        (folder / "slurm.conf").write_text(text)
        (folder / "munge.key-file").write_bytes(os.urandom(1024))
        (folder / "munge.key-file").chmod(0o600)
        LINK.parent.mkdir(exist_ok=True)
        if _left_behind(LINK):
            LINK.unlink()
        try:
            LINK.symlink_to(folder / "slurm.conf")
        except FileExistsError:
            raise Unavailable(f"{LINK} exists: this machine belongs to a cluster") from None
        try:
            files = [
                f"--{kind}={folder}/munge.{kind}"
                for kind in ("socket", "key-file", "pid-file", "log-file", "seed-file")
            ]
            self._start("munged", "--foreground", "--force", *files)
            self._wait("munged", lambda: _ran("munge", "-n", f"--socket={folder}/munge.socket"))
            self._start("slurmctld", "-D")
            self._wait("slurmctld", lambda: _ran("scontrol", "ping"))
            for name in names:
                (folder / f"spool.{name}").mkdir()
                self._start("slurmd", "-D", "-N", name, name=name)
            self._wait("slurmd", lambda: _out("sinfo", "-hN", "-t", "idle", "-o", "%N").split() == names)
            self._wait("srun", lambda: _ran("srun", f"-N{nodes}", "true"))
        except BaseException:
            self.stop()
            raise

    def kill_node(self, node: str) -> None:
        """The death of a node: its slurmd and every process of its jobs get SIGKILL at once."""
        steps = [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == "slurmstepd" and self._is_on(process, node)
        ]
        everything = [child for step in steps for child in step.children(recursive=True)] + steps
        self.processes.pop(node).kill()
        for process in everything:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def control(self, *what: str) -> None:
        """``scontrol update``."""
        done = _run(("scontrol", "update", *what))
        if done.returncode:
            raise RuntimeError(f"scontrol update {' '.join(what)}: {done.stderr}")

    def jobs_on(self, node: str) -> list[str]:
        """Ids of the jobs that run on a node."""
        return _out("squeue", "-h", "-t", "R", "-w", node, "-o", "%i").split()

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, as ``scontrol show job`` tells it."""
        lines = _out("scontrol", "show", "job", "--oneliner").splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def stop(self) -> None:
        """Cancel the jobs, end the daemons in the reverse order of their start, take the link away."""
        if "slurmctld" in self.processes:
            _ran("scancel", "--user=root")
            self._until(lambda: not _out("squeue", "-h", "-t", "R,CG"), 10)
        for process in reversed(self.processes.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if LINK.is_symlink() and LINK.readlink() == self.folder / "slurm.conf":
            LINK.unlink()

    def _is_on(self, step: psutil.Process, node: str) -> bool:
        """A slurmstepd is titled ``slurmstepd: [job.step]``; the jobs of a node are known to the controller."""
        title = " ".join(step.info["cmdline"] or ())  # none of a process that has just ended
        return any(f"[{job}." in title for job in self.jobs_on(node))

    def _start(self, program: str, *arguments: str, name: str = "") -> None:
        with open(self.folder / f"{name or program}.out", "wb") as out:
            self.processes[name or program] = subprocess.Popen(
                [program, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _wait(self, name: str, condition: Callable[[], bool], seconds: float = 60) -> None:
        if not self._until(condition, seconds):
            raise Unavailable(f"{name} does not work within {seconds} s, see {self.folder}")

    @staticmethod
    def _until(condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def _left_behind(link: Path) -> bool:
    """Whether a configuration is one that a killed test linked: its controller lives no more."""
    if not link.is_symlink():
        return False
    controller = link.readlink().parent / "slurmctld.pid"
    return not controller.exists() or not psutil.pid_exists(int(controller.read_text()))


def _install() -> None:
    if os.geteuid():
        raise Unavailable("SLURM's daemons need root")
    if all(shutil.which(program) for program in ("munged", "slurmctld", "slurmd", "sbatch")):
        return
    if not shutil.which("apt-get"):
        raise Unavailable("slurmd is not installed, and there is no apt-get")
    silent = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "-q", *command], env=silent, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"apt-get {command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _ran(*command: str) -> bool:
    return _run(command).returncode == 0


def _out(*command: str) -> str:
    return _run(command).stdout


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "SLURM_CONF"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
