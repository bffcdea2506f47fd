"""Tries the Python binding without a server: echo.py LIBCHORUS_CLIENT"""

import os
import sys
import tempfile
import time

import chorus

library = chorus.Library(sys.argv[1])


def refuses(code, call, *values, **options):
    """`code`: a status, or an exception of Python's own."""
    try:
        call(*values, **options)
    except chorus.ChorusError as error:
        assert error.code == code, error
    except (TypeError, ValueError) as error:
        assert type(error) is code, error
    else:
        raise SystemExit(f"{call} with {options} was not refused")


def logs_of_a_client_without_a_server(level):
    """What a client that finds no server writes to stderr."""
    saved, (end, into) = os.dup(2), os.pipe()
    os.dup2(into, 2)
    os.close(into)
    try:
        with tempfile.TemporaryDirectory() as folder:
            client = chorus.Client(library, plaintext=True, server="127.0.0.1:1",
                                   coordinator_key=b"k" * 32, issuer_key=b"k" * 32,
                                   identity_seed=b"k" * 32, certificate=b"none",
                                   state_dir=folder, log_to_stderr=level)
            client.add_examples([[1, 2]], labels=[0])
            client.start()
            deadline = time.monotonic() + 60
            while not client.poll(100) and time.monotonic() < deadline:
                time.sleep(0.001)
            client.close()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    with os.fdopen(end) as written:
        return written.read()


client = chorus.Client(library, echo=True, server="echo.example:7447")
try:
    client.start()
    raise SystemExit("a client without examples started")
except chorus.ChorusError as error:
    assert error.code == 9 and "no examples" in str(error), error
client.add_examples([[1, 2], [3, 5]], labels=[0, 1])
client.start()
client.set_signals(chorus.IN_COMBAT)
assert client.poll(100) == []
client.set_signals(0)
events = [event for _ in range(5) for event in client.poll(100)]
assert [event.kind for event in events] == [chorus.CONNECTED, chorus.INVITED, chorus.TRAINED,
                                            chorus.UPLOADED, chorus.CONTRIBUTED], events
assert events[0].message == "echo.example:7447" and events[4].round == 1
model = client.fetch_model()
assert (model.inputs, model.outputs) == (2, 2)
assert model.weights() == [2.0, 3.5]
assert model.predict([0.5, -1, 4, 8]) == [0.5, -1, 4, 8]
client.stop()
assert [event.kind for event in client.poll(100)] == [chorus.STOPPED]
client.close()

# Only what it is told to defers it, and nothing does when it is told so.
for defer_on, signals in ((chorus.ON_BATTERY, chorus.IN_COMBAT), (0, chorus.IN_COMBAT)):
    client = chorus.Client(library, echo=True, defer_on=defer_on)
    client.add_examples([[1, 2], [3, 5]], targets=[[0.5], [1.5]])
    client.start()
    client.set_signals(signals)
    assert len(client.poll(100)) == 1
    client.set_signals(chorus.ON_BATTERY)
    assert len(client.poll(100)) == (defer_on == 0)
    client.close()
client = chorus.Client(library, echo=True, memory_bytes_max=24)
client.add_examples([[1, 2], [3, 5]], labels=[0, 1])
refuses(8, client.add_examples, [[1, 2]], labels=[0])
client.close()
client = chorus.Client(library, echo=True)
client.add_examples([[1, 2], [3, 5]], labels=[0, 1])
refuses(ValueError, client.add_examples, [[1, 2], [3]], labels=[0, 1])
refuses(ValueError, client.add_examples, [[1, 2], [3, 4]], labels=[0])
refuses(ValueError, client.add_examples, [[1, 2], [3, 4]], targets=[[1]])
refuses(3, client.add_examples, [[1, float("nan")]], labels=[0])
client.close()
# A client that was not made has nothing to end.
ignored = []
sys.unraisablehook = ignored.append
refuses(3, chorus.Client, library)
refuses(3, chorus.Client, library, echo=True, defer_on=1 << 20)
refuses(TypeError, chorus.Client, library, echo=True, servr="here")
refuses(TypeError, chorus.Client, library, echo=True, server=1.5)
assert not ignored, ignored
assert logs_of_a_client_without_a_server(0) == ""
logged = logs_of_a_client_without_a_server(1)
assert "disconnected" in logged, logged
print(f"Python binding works with Chorus {library.version()}")
