"""Chorus for Python: the C ABI of libchorus_client.so and libchorus_coordinator.so through ctypes.

One file without dependencies; copy it into a project. The names and their meaning are those of
chorus/client_c.h and chorus/coordinator_c.h. A process loads one of the two libraries: a game the
client's, a game server the coordinator's.
"""

import ctypes
import pathlib
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_uint32, c_uint64, c_void_p

CONNECTED, DISCONNECTED, INVITED, REFUSED, TRAINED, UPLOADED, CONTRIBUTED, ROUND_LOST, STOPPED, \
    EQUIVOCATION = range(10)
ROUND_BEGAN, STEP_CLOSED, ROUND_ENDED, TASK_COMPLETE, TROUBLE = range(5)
TRAIN_ON_WORKER, TRAIN_IN_POLL = 0, 1
IN_COMBAT, ON_BATTERY, HOT, METERED_NETWORK = 1, 2, 4, 8
OK, NOT_FOUND, UNAVAILABLE = 0, 5, 14


class ChorusError(Exception):
    """A call that failed: `code` is its status, the text says what was wrong."""

    def __init__(self, code, meaning, detail):
        super().__init__(f"{meaning}: {detail}")
        self.code = code


class _Bytes(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("size", c_uint64)]


class _ModelShape(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("inputs", c_uint32), ("outputs", c_uint32),
                ("reserved", c_uint32), ("parameters", c_uint64), ("round", c_uint64)]


class _ClientEvent(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("kind", c_int32), ("round", c_uint64),
                ("status", c_int32), ("reserved", c_uint32), ("message", c_char_p)]


class _CoordinatorEvent(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("kind", c_int32), ("round", c_uint64),
                ("status", c_int32), ("committed", c_uint32), ("answered", c_uint32),
                ("asked", c_uint32), ("accuracy", c_double), ("loss", c_double),
                ("message", c_char_p)]


class _ClientConfig(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("echo", c_uint32), ("plaintext", c_uint32),
                ("training", c_uint32), ("defer_on", c_uint32), ("log_to_stderr", c_uint32),
                ("memory_bytes_max", c_uint64), ("server", _Bytes), ("tls_roots_pem", _Bytes),
                ("coordinator_key", _Bytes), ("issuer_key", _Bytes), ("identity_seed", _Bytes),
                ("certificate", _Bytes), ("policy", _Bytes), ("state_dir", _Bytes),
                ("on_event", c_void_p), ("user", c_void_p), ("tls_certificate_pem", _Bytes),
                ("tls_key_pem", _Bytes)]


class _CoordinatorConfig(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("plaintext", c_uint32), ("own_thread", c_uint32),
                ("log_to_stderr", c_uint32), ("task", _Bytes), ("listen", _Bytes),
                ("tls_certificate_pem", _Bytes), ("tls_key_pem", _Bytes),
                ("signing_seed", _Bytes), ("issuer_key", _Bytes), ("store_path", _Bytes),
                ("on_event", c_void_p), ("user", c_void_p), ("experiment_seed", c_uint64),
                ("client_ca_pem", _Bytes), ("token_keys", _Bytes), ("token_issuer", _Bytes),
                ("token_audience", _Bytes), ("web_listen", _Bytes)]


class _Examples(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("inputs", c_uint32), ("count", c_uint64),
                ("features", POINTER(c_float)), ("labels", POINTER(c_uint32)),
                ("targets", POINTER(c_float)), ("outputs", c_uint32), ("reserved", c_uint32)]


class Event:
    """What happened: the fields of the C structure as attributes."""

    def __init__(self, raw):
        for name, _ in raw._fields_[1:]:
            setattr(self, name, getattr(raw, name))
        self.message = raw.message.decode()


class Library:
    """A loaded shared object: `Library("libchorus_client.so.1")`."""

    def __init__(self, path):
        self.c = ctypes.CDLL(str(path))
        self.c.chorus_status_message.restype = c_char_p
        self.c.chorus_last_error.restype = c_char_p
        self.c.chorus_version.restype = c_char_p

    def version(self):
        return self.c.chorus_version().decode()

    def check(self, code):
        if code != OK:
            raise ChorusError(code, self.c.chorus_status_message(c_int32(code)).decode(),
                              self.c.chorus_last_error().decode())

    def next_event(self, function, handle, kind):
        raw = kind()
        raw.struct_size = ctypes.sizeof(raw)
        code = function(handle, byref(raw))
        if code == NOT_FOUND:
            return None
        self.check(code)
        return Event(raw)


def _lend(config, fields, kept):
    """Sets byte fields; `kept` holds what they point to until the call is over."""
    known = {name for name, kind in config._fields_ if kind is _Bytes}
    for name, value in fields.items():
        if name not in known:
            raise TypeError(f"there is no option {name}")
        data = value.encode() if isinstance(value, str) else bytes(value)
        buffer = ctypes.create_string_buffer(data, max(len(data), 1))
        kept.append(buffer)
        setattr(config, name, _Bytes(ctypes.cast(buffer, c_void_p), len(data)))


def _floats(rows, count):
    """`count` rows of one length, laid end to end: the library reads as many as it is told of."""
    if len(rows) != count or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("each example must have as many numbers as the first")
    flat = [value for row in rows for value in row]
    return (c_float * len(flat))(*flat)


class Model:
    """A copy of what was learnt, ready to run."""

    def __init__(self, library, handle):
        self._library, self._handle = library, handle
        shape = _ModelShape()
        shape.struct_size = ctypes.sizeof(shape)
        library.check(library.c.chorus_model_get_shape(handle, byref(shape)))
        self.inputs, self.outputs = shape.inputs, shape.outputs
        self.parameters, self.round = shape.parameters, shape.round

    def predict(self, features):
        """The outputs for one example, or for several laid end to end."""
        rows = len(features) // self.inputs
        given = (c_float * len(features))(*features)
        outputs = (c_float * (rows * self.outputs))()
        self._library.check(self._library.c.chorus_model_predict(
            self._handle, given, c_uint64(len(features)), outputs, c_uint64(len(outputs))))
        return list(outputs)

    def weights(self):
        values = (c_float * self.parameters)()
        self._library.check(self._library.c.chorus_model_copy_weights(
            self._handle, values, c_uint64(self.parameters)))
        return list(values)

    def close(self):
        if self._handle:
            self._library.c.chorus_model_destroy(self._handle)
            self._handle = None

    __del__ = close


class Client:
    """A player's device. Keyword arguments are the fields of chorus_client_config.

    `defer_on`: bits of signals; left out, all of them.
    """

    def __init__(self, library, echo=False, plaintext=False, training=TRAIN_IN_POLL,
                 defer_on=None, log_to_stderr=0, memory_bytes_max=0, **texts):
        self._library, self._handle = library, None
        config, kept = _ClientConfig(), []
        library.check(library.c.chorus_client_config_init(byref(config), ctypes.sizeof(config)))
        config.echo, config.plaintext, config.training = echo, plaintext, training
        config.log_to_stderr = log_to_stderr
        if defer_on is not None:
            config.defer_on = defer_on
        if memory_bytes_max:
            config.memory_bytes_max = memory_bytes_max
        _lend(config, texts, kept)
        handle = c_void_p()
        library.check(library.c.chorus_client_create(byref(config), byref(handle)))
        self._handle = handle

    @classmethod
    def from_keys(cls, library, folder, **others):
        """With the keys that `chorus keys client` wrote to `folder`."""
        folder = pathlib.Path(folder)
        key = lambda name: bytes.fromhex((folder / name).read_text().strip())
        return cls(library, coordinator_key=key("coordinator.pub"), issuer_key=key("issuer.pub"),
                   identity_seed=key("identity.key"),
                   certificate=(folder / "certificate").read_bytes(),
                   tls_roots_pem=(folder / "tls-authority.pem").read_bytes(), **others)

    def add_examples(self, features, labels=None, targets=None):
        """`features`: a list of lists; `labels`: whole numbers; `targets`: a list of lists."""
        raw = _Examples()
        raw.struct_size = ctypes.sizeof(raw)
        raw.inputs, raw.count = len(features[0]), len(features)
        raw.features = _floats(features, raw.count)
        if labels is not None:
            if len(labels) != raw.count:
                raise ValueError("there must be one label for each example")
            raw.labels = (c_uint32 * len(labels))(*labels)
        if targets is not None:
            raw.targets, raw.outputs = _floats(targets, raw.count), len(targets[0])
        self._library.check(self._library.c.chorus_client_add_examples(self._handle, byref(raw)))

    def start(self):
        self._library.check(self._library.c.chorus_client_start(self._handle))

    def poll(self, budget_us):
        """Trains for at most `budget_us`; gives the events since the last poll."""
        self._library.check(self._library.c.chorus_client_poll(self._handle, c_uint32(budget_us)))
        events = []
        while True:
            event = self._library.next_event(self._library.c.chorus_client_next_event,
                                             self._handle, _ClientEvent)
            if event is None:
                return events
            events.append(event)

    def pause(self):
        self._library.check(self._library.c.chorus_client_pause(self._handle))

    def resume(self):
        self._library.check(self._library.c.chorus_client_resume(self._handle))

    def set_signals(self, signals):
        self._library.check(self._library.c.chorus_client_set_signals(self._handle,
                                                                      c_uint32(signals)))

    def set_token(self, token):
        """The session token of the game's own login, from any thread."""
        data = token.encode() if isinstance(token, str) else bytes(token)
        self._library.check(self._library.c.chorus_client_set_token(self._handle, data,
                                                                    c_uint64(len(data))))

    def stop(self):
        self._library.check(self._library.c.chorus_client_stop(self._handle))

    def fetch_model(self):
        """The model that the latest round began with, or None while there is none."""
        handle = c_void_p()
        code = self._library.c.chorus_client_fetch_model(self._handle, byref(handle))
        if code in (NOT_FOUND, UNAVAILABLE):
            return None
        self._library.check(code)
        return Model(self._library, handle)

    def close(self):
        if self._handle:
            self._library.c.chorus_client_destroy(self._handle)
            self._handle = None

    __del__ = close


class Coordinator:
    """A coordinator inside this process, ticked by poll."""

    def __init__(self, library, plaintext=False, own_thread=False, log_to_stderr=0,
                 experiment_seed=0, **texts):
        self._library, self._handle = library, None
        config, kept = _CoordinatorConfig(), []
        library.check(library.c.chorus_coordinator_config_init(byref(config),
                                                               ctypes.sizeof(config)))
        config.plaintext, config.own_thread = plaintext, own_thread
        config.log_to_stderr, config.experiment_seed = log_to_stderr, experiment_seed
        _lend(config, texts, kept)
        handle = c_void_p()
        library.check(library.c.chorus_coordinator_create(byref(config), byref(handle)))
        self._handle = handle

    @classmethod
    def from_keys(cls, library, folder, **others):
        """With the keys that `chorus keys init` wrote to `folder`."""
        folder = pathlib.Path(folder)
        key = lambda name: bytes.fromhex((folder / name).read_text().strip())
        return cls(library, signing_seed=key("coordinator.key"), issuer_key=key("issuer.pub"),
                   tls_certificate_pem=(folder / "tls-server.pem").read_bytes(),
                   tls_key_pem=(folder / "tls-server.key").read_bytes(), **others)

    def port(self):
        port = c_int32()
        self._library.check(self._library.c.chorus_coordinator_get_port(self._handle, byref(port)))
        return port.value

    def web_port(self):
        port = c_int32()
        self._library.check(self._library.c.chorus_coordinator_get_web_port(self._handle,
                                                                            byref(port)))
        return port.value

    def set_token_keys(self, jwks):
        """The login's new keys, of a coordinator that was made with token_keys; from any thread."""
        data = jwks.encode() if isinstance(jwks, str) else bytes(jwks)
        self._library.check(self._library.c.chorus_coordinator_set_token_keys(
            self._handle, data, c_uint64(len(data))))

    def poll(self, budget_us):
        self._library.check(self._library.c.chorus_coordinator_poll(self._handle,
                                                                    c_uint32(budget_us)))
        events = []
        while True:
            event = self._library.next_event(self._library.c.chorus_coordinator_next_event,
                                             self._handle, _CoordinatorEvent)
            if event is None:
                return events
            events.append(event)

    def fetch_model(self):
        handle = c_void_p()
        self._library.check(self._library.c.chorus_coordinator_fetch_model(self._handle,
                                                                           byref(handle)))
        return Model(self._library, handle)

    def close(self):
        if self._handle:
            self._library.c.chorus_coordinator_destroy(self._handle)
            self._handle = None

    __del__ = close
