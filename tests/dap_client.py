"""A client of the Debug Adapter Protocol, as small as it can be: what VS Code says to debugpy when one clicks."""

import json
import queue
import subprocess
import sys
import threading
import time


class Debugger:
    """A program under debugpy, which is spoken to over stdin and stdout. Use as a `with` block."""

    def __init__(self, program, args, cwd, timeout=120, env=None):
        self.timeout = timeout
        self.output = ""  # of the program
        self.exit_code = None
        self._number = 0
        self._messages = queue.Queue()
        self._events = []  # come, but not waited for yet
        self._adapter = subprocess.Popen(
            [sys.executable, "-m", "debugpy.adapter"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.request("initialize", adapterID="debugpy", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
        self._launch = self._send(
            "launch", program=str(program), args=args, cwd=str(cwd), console="internalConsole", python=[sys.executable],
            justMyCode=True, redirectOutput=True, env=env or {},
        )  # fmt: skip
        self.wait_for("initialized")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._adapter.kill()  # takes the program with it
        self._adapter.wait()
        self._reader.join()
        self._adapter.stdin.close()
        self._adapter.stdout.close()

    def start(self):
        """Let the program run, once breakpoints are set."""
        self.request("configurationDone")
        self._answer(self._launch)

    def break_at(self, path, lines):
        """Make these lines the breakpoints of a file."""
        self.set_breakpoints(path, [{"line": line} for line in lines])

    def set_breakpoints(self, path, breakpoints):
        """Make these the breakpoints of a file: {"line": ..., "condition": expression or None} each."""
        answer = self.request("setBreakpoints", source={"path": str(path)}, breakpoints=breakpoints)
        assert all(b["verified"] for b in answer["breakpoints"]), answer

    def stopped(self):
        """Wait for a stop -> (thread, the top frame of its stack)."""
        thread = self.wait_for("stopped")["threadId"]
        return thread, self.frames(thread)[0]

    def frames(self, thread):
        """A stopped thread's stack, the innermost frame first."""
        return self.request("stackTrace", threadId=thread)["stackFrames"]

    def variables(self, frame):
        """{name: what the debugger shows for it} of a frame's local variables."""
        scopes = self.request("scopes", frameId=frame["id"])["scopes"]
        shown = self.request("variables", variablesReference=scopes[0]["variablesReference"])["variables"]
        return {v["name"]: v["value"] for v in shown}

    def evaluate(self, expression, frame):
        return self.request("evaluate", expression=expression, frameId=frame["id"], context="repl")["result"]

    def request(self, command, **arguments):
        """Send a request, wait for its answer -> the answer's body. AssertionError if it failed."""
        return self._answer(self._send(command, **arguments))

    def wait_for(self, event):
        """The body of the next event of this name."""
        while True:
            for i, message in enumerate(self._events):
                if message["event"] == event:
                    return self._events.pop(i).get("body", {})
            self._next()

    def _send(self, command, **arguments):
        self._number += 1
        message = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        data = json.dumps(message).encode()
        self._adapter.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self._adapter.stdin.flush()
        return self._number

    def _answer(self, number):
        while True:
            message = self._next()
            if message["type"] == "response" and message["request_seq"] == number:
                assert message["success"], message
                return message.get("body", {})

    def _next(self):
        deadline = time.monotonic() + self.timeout
        message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        if message["type"] == "event":
            if message["event"] == "output" and message["body"].get("category") in ("stdout", "stderr"):
                self.output += message["body"]["output"]
            elif message["event"] == "exited":
                self.exit_code = message["body"]["exitCode"]
            self._events.append(message)
        return message

    def _read(self):
        while line := self._adapter.stdout.readline():
            if line.startswith(b"Content-Length:"):
                length = int(line.split(b":")[1])
                self._adapter.stdout.readline()
                self._messages.put(json.loads(self._adapter.stdout.read(length)))
