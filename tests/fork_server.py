"""Server and client of `forks`: a process whose forks run Python programs.

python fork_server.py server SOCKET MODULE...     imports the modules and waits
python fork_server.py client SOCKET -m MODULE     runs a program in a fork of the server
"""

import contextlib
import json
import os
import resource
import signal
import socket
import sys


def serve(path, *modules):
    """Imports modules, or runs files as modules, and then a program in a fork for each client."""
    import importlib
    import runpy
    import select

    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    for module in modules:
        if module.endswith(".py"):
            runpy.run_path(module, run_name="preloaded")
        else:
            importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        os.write(1, b"ready\n")
        while sys.stdin.buffer not in select.select([listener, sys.stdin.buffer], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _handle(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):  # the forks that have ended
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    os.killpg(0, signal.SIGKILL)


def _handle(connection):
    """Runs one program in a fork, and returns its status to the client."""
    message, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size, content = int.from_bytes(message, "big"), b""
    while piece := connection.recv(size - len(content)):
        content += piece
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin = os.fdopen(0)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
        _run(**json.loads(content))
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(pid, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(arguments, environment, folder, limits, umask):
    """Runs a program as the main program of this process, and ends the process."""
    import traceback

    status = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.umask(umask)
        os.chdir(folder)
        for limit, values in limits:
            resource.setrlimit(limit, values)
        status = _status_of(lambda: _execute(*arguments))
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        import threading

        threading._shutdown()
        import atexit

        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _execute(kind, *given):
    """Runs what `python KIND GIVEN...` runs."""
    import runpy
    import types

    sys.orig_argv[:] = [sys.executable, kind, *given]
    if kind == "-P":
        kind, *given = given
    else:
        first = {"-c": "", "-m": os.getcwd()}
        sys.path.insert(0, first.get(kind, os.path.dirname(os.path.abspath(kind))))
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [place for place in added if place and place not in sys.path]
    if kind == "-c":
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        sys.argv[:] = ["-c", *given[1:]]
        exec(compile(given[0], "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        sys.argv[:] = given
        for module in (given[0], f"{given[0]}.__main__"):
            sys.modules.pop(module, None)
        runpy.run_module(given[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = [kind, *given]
        runpy.run_path(kind, run_name="__main__")


def _status_of(run):
    """Returns the exit status that Python has for `SystemExit`."""
    try:
        run()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    return 0


# ------------------------------------------------------------------------ the client


def call(path, *arguments):
    """Runs a program in a fork of the server at a socket, and ends as the program ends."""
    limits = [(n, resource.getrlimit(n)) for n in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)]
    umask = os.umask(0)
    os.umask(umask)
    content = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    content = json.dumps(content | {"limits": limits, "umask": umask}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [len(content).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(content)
        status = int(connection.recv(16) or b"1")
    if status < 0:
        with contextlib.suppress(OSError):  # of SIGKILL
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    {"server": serve, "client": call}[sys.argv[1]](*sys.argv[2:])
