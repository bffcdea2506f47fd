// Chorus for C#: the client's C ABI by P/Invoke, in one file for Unity, Godot or plain .NET and Mono.
// Names and their meaning are those of chorus/client_c.h. In Unity put libchorus_client.so into
// Assets/Plugins and call Client.Poll from Update(). No callback crosses the border, so that IL2CPP
// needs no attribute.
using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;

namespace Chorus {

public enum EventKind {
  Connected, Disconnected, Invited, Refused, Trained, Uploaded, Contributed, RoundLost, Stopped,
  Equivocation
}

public enum TrainingPlace : uint { OnWorker = 0, InPoll = 1 }

[Flags]
public enum Signals : uint { None = 0, InCombat = 1, OnBattery = 2, Hot = 4, MeteredNetwork = 8 }

public enum LogLevel : uint { Nothing = 0, Warnings = 1, Transitions = 2 }

public struct Event {
  public EventKind Kind;
  public ulong Round;
  public int Status;
  public string Message;
}

// A call that failed: Code is its status, the message says what was wrong.
public class ChorusException : Exception {
  public readonly int Code;
  public ChorusException(int code, string message) : base(message) { Code = code; }
}

static class Native {
  const string Library = "chorus_client";

  [StructLayout(LayoutKind.Sequential)]
  public struct Bytes { public IntPtr data; public ulong size; }

  [StructLayout(LayoutKind.Sequential)]
  public struct Config {
    public uint struct_size, echo, plaintext, training, defer_on, log_to_stderr;
    public ulong memory_bytes_max;
    public Bytes server, tls_roots_pem, coordinator_key, issuer_key, identity_seed, certificate,
        policy, state_dir;
    public IntPtr on_event, user;
    public Bytes tls_certificate_pem, tls_key_pem;
  }

  [StructLayout(LayoutKind.Sequential)]
  public struct Examples {
    public uint struct_size, inputs;
    public ulong count;
    public IntPtr features, labels, targets;
    public uint outputs, reserved;
  }

  [StructLayout(LayoutKind.Sequential)]
  public struct ClientEvent {
    public uint struct_size;
    public int kind;
    public ulong round;
    public int status;
    public uint reserved;
    public IntPtr message;
  }

  [StructLayout(LayoutKind.Sequential)]
  public struct Shape {
    public uint struct_size, inputs, outputs, reserved;
    public ulong parameters, round;
  }

  [DllImport(Library)] public static extern IntPtr chorus_version();
  [DllImport(Library)] public static extern IntPtr chorus_last_error();
  [DllImport(Library)] public static extern IntPtr chorus_status_message(int code);
  [DllImport(Library)] public static extern int chorus_client_config_init(ref Config config, uint size);
  [DllImport(Library)] public static extern int chorus_client_create(ref Config config, out IntPtr client);
  [DllImport(Library)] public static extern int chorus_client_add_examples(IntPtr client, ref Examples examples);
  [DllImport(Library)] public static extern int chorus_client_start(IntPtr client);
  [DllImport(Library)] public static extern int chorus_client_poll(IntPtr client, uint budget_us);
  [DllImport(Library)] public static extern int chorus_client_next_event(IntPtr client, ref ClientEvent e);
  [DllImport(Library)] public static extern int chorus_client_pause(IntPtr client);
  [DllImport(Library)] public static extern int chorus_client_resume(IntPtr client);
  [DllImport(Library)] public static extern int chorus_client_set_signals(IntPtr client, uint signals);
  [DllImport(Library)] public static extern int chorus_client_set_token(IntPtr client, byte[] token, ulong size);
  [DllImport(Library)] public static extern int chorus_client_stop(IntPtr client);
  [DllImport(Library)] public static extern int chorus_client_fetch_model(IntPtr client, out IntPtr model);
  [DllImport(Library)] public static extern int chorus_client_destroy(IntPtr client);
  [DllImport(Library)] public static extern int chorus_model_get_shape(IntPtr model, ref Shape shape);
  [DllImport(Library)] public static extern int chorus_model_predict(IntPtr model, float[] features, ulong features_count, float[] outputs, ulong outputs_count);
  [DllImport(Library)] public static extern int chorus_model_copy_weights(IntPtr model, float[] weights, ulong count);
  [DllImport(Library)] public static extern int chorus_model_destroy(IntPtr model);

  public const int Ok = 0, NotFound = 5, Unavailable = 14;

  public static string Text(IntPtr utf8) {
    int length = 0;
    while (Marshal.ReadByte(utf8, length) != 0) ++length;
    var bytes = new byte[length];
    Marshal.Copy(utf8, bytes, 0, length);
    return Encoding.UTF8.GetString(bytes);
  }

  public static void Check(int code) {
    if (code == Ok) return;
    throw new ChorusException(code, Text(chorus_status_message(code)) + ": " + Text(chorus_last_error()));
  }
}

// A copy of what was learnt, ready to run.
public sealed class Model : IDisposable {
  IntPtr handle;
  public readonly int Inputs, Outputs;
  public readonly ulong Parameters, Round;

  internal Model(IntPtr made) {
    handle = made;
    var shape = new Native.Shape { struct_size = (uint)Marshal.SizeOf(typeof(Native.Shape)) };
    Native.Check(Native.chorus_model_get_shape(handle, ref shape));
    Inputs = (int)shape.inputs;
    Outputs = (int)shape.outputs;
    Parameters = shape.parameters;
    Round = shape.round;
  }

  // The outputs for one example, or for several laid end to end.
  public float[] Predict(params float[] features) {
    var outputs = new float[features.Length / Inputs * Outputs];
    Predict(features, outputs);
    return outputs;
  }

  // The same into `outputs`, which has as many numbers: makes no garbage, so it suits a frame.
  public void Predict(float[] features, float[] outputs) {
    Native.Check(Native.chorus_model_predict(handle, features, (ulong)features.Length, outputs,
                                             (ulong)outputs.Length));
  }

  public float[] Weights() {
    var weights = new float[Parameters];
    Native.Check(Native.chorus_model_copy_weights(handle, weights, Parameters));
    return weights;
  }

  public void Dispose() {
    if (handle != IntPtr.Zero) Native.chorus_model_destroy(handle);
    handle = IntPtr.Zero;
  }
}

// What a client is made of; fields left out take the library's defaults.
public sealed class Config {
  public bool Echo, Plaintext;
  public TrainingPlace Training = TrainingPlace.InPoll;
  public ulong MemoryBytesMax;
  public Signals? DeferOn;  // nothing is trained while one of these is on
  public LogLevel Log;      // to stderr
  public string Server = "", TlsRootsPem = "", Policy = "", StateDir = "",
      TlsCertificatePem = "", TlsKeyPem = "";
  public byte[] CoordinatorKey = {}, IssuerKey = {}, IdentitySeed = {}, Certificate = {};

  // With the keys that `chorus keys client` wrote to `folder`.
  public static Config FromKeys(string folder) {
    return new Config {
      CoordinatorKey = Hex(Path.Combine(folder, "coordinator.pub")),
      IssuerKey = Hex(Path.Combine(folder, "issuer.pub")),
      IdentitySeed = Hex(Path.Combine(folder, "identity.key")),
      Certificate = File.ReadAllBytes(Path.Combine(folder, "certificate")),
      TlsRootsPem = File.ReadAllText(Path.Combine(folder, "tls-authority.pem"))
    };
  }

  static byte[] Hex(string path) {
    string text = File.ReadAllText(path).Trim();
    var bytes = new byte[text.Length / 2];
    for (int i = 0; i < bytes.Length; ++i) bytes[i] = Convert.ToByte(text.Substring(2 * i, 2), 16);
    return bytes;
  }
}

// A player's device. Use it from one thread; Pause, Resume, SetSignals, SetToken and Stop from any.
public sealed class Client : IDisposable {
  static readonly uint EventSize = (uint)Marshal.SizeOf(typeof(Native.ClientEvent));
  readonly List<Event> noEvents = new List<Event>();
  IntPtr handle;

  public Client(Config from) {
    var config = new Native.Config();
    Native.Check(Native.chorus_client_config_init(ref config, (uint)Marshal.SizeOf(typeof(Native.Config))));
    config.echo = from.Echo ? 1u : 0u;
    config.plaintext = from.Plaintext ? 1u : 0u;
    config.training = (uint)from.Training;
    config.log_to_stderr = (uint)from.Log;
    if (from.DeferOn.HasValue) config.defer_on = (uint)from.DeferOn.Value;
    if (from.MemoryBytesMax != 0) config.memory_bytes_max = from.MemoryBytesMax;
    var lent = new List<GCHandle>();
    try {
      config.server = Lend(Encoding.UTF8.GetBytes(from.Server), lent);
      config.tls_roots_pem = Lend(Encoding.UTF8.GetBytes(from.TlsRootsPem), lent);
      config.coordinator_key = Lend(from.CoordinatorKey, lent);
      config.issuer_key = Lend(from.IssuerKey, lent);
      config.identity_seed = Lend(from.IdentitySeed, lent);
      config.certificate = Lend(from.Certificate, lent);
      config.policy = Lend(Encoding.UTF8.GetBytes(from.Policy), lent);
      config.state_dir = Lend(Encoding.UTF8.GetBytes(from.StateDir), lent);
      config.tls_certificate_pem = Lend(Encoding.UTF8.GetBytes(from.TlsCertificatePem), lent);
      config.tls_key_pem = Lend(Encoding.UTF8.GetBytes(from.TlsKeyPem), lent);
      Native.Check(Native.chorus_client_create(ref config, out handle));
    } finally {
      foreach (var pinned in lent) pinned.Free();
    }
  }

  static Native.Bytes Lend(byte[] bytes, List<GCHandle> lent) {
    var pinned = GCHandle.Alloc(bytes, GCHandleType.Pinned);
    lent.Add(pinned);
    return new Native.Bytes { data = bytes.Length == 0 ? IntPtr.Zero : pinned.AddrOfPinnedObject(),
                              size = (ulong)bytes.Length };
  }

  // `features` are laid end to end, `inputs` for each example; so are `targets`, as many for each
  // example as for any other. At most one of `labels` and `targets` is given.
  public void AddExamples(int inputs, float[] features, uint[] labels = null,
                          float[] targets = null) {
    if (inputs < 1 || features.Length == 0 || features.Length % inputs != 0)
      throw new ArgumentException("features must be whole examples, and at least one");
    int count = features.Length / inputs;
    if (labels != null && labels.Length != count)
      throw new ArgumentException("there must be one label for each example");
    if (targets != null && (targets.Length == 0 || targets.Length % count != 0))
      throw new ArgumentException("there must be as many targets for each example");
    var lent = new List<GCHandle>();
    try {
      var examples = new Native.Examples {
        struct_size = (uint)Marshal.SizeOf(typeof(Native.Examples)),
        inputs = (uint)inputs,
        count = (ulong)count,
        features = Pin(features, lent),
        labels = Pin(labels, lent),
        targets = Pin(targets, lent),
        outputs = targets == null ? 0 : (uint)(targets.Length / count)
      };
      Native.Check(Native.chorus_client_add_examples(handle, ref examples));
    } finally {
      foreach (var pinned in lent) pinned.Free();
    }
  }

  static IntPtr Pin(Array numbers, List<GCHandle> lent) {
    if (numbers == null) return IntPtr.Zero;
    lent.Add(GCHandle.Alloc(numbers, GCHandleType.Pinned));
    return lent[lent.Count - 1].AddrOfPinnedObject();
  }

  public void Start() { Native.Check(Native.chorus_client_start(handle)); }

  // Once a frame. Trains for at most `budgetMicroseconds`; gives the events since the last poll. In
  // frames without any, which nearly all are, it is the same empty list: polling makes no garbage.
  public List<Event> Poll(uint budgetMicroseconds) {
    Native.Check(Native.chorus_client_poll(handle, budgetMicroseconds));
    List<Event> events = null;
    while (true) {
      var raw = new Native.ClientEvent { struct_size = EventSize };
      int code = Native.chorus_client_next_event(handle, ref raw);
      if (code == Native.NotFound) break;
      Native.Check(code);
      if (events == null) events = new List<Event>();
      events.Add(new Event { Kind = (EventKind)raw.kind, Round = raw.round, Status = raw.status,
                             Message = Native.Text(raw.message) });
    }
    if (events != null) return events;
    noEvents.Clear();  // of what the host may have put there
    return noEvents;
  }

  public void Pause() { Native.Check(Native.chorus_client_pause(handle)); }
  public void Resume() { Native.Check(Native.chorus_client_resume(handle)); }
  public void SetSignals(Signals signals) {
    Native.Check(Native.chorus_client_set_signals(handle, (uint)signals));
  }
  // The session token of the game's own login.
  public void SetToken(string token) {
    byte[] bytes = Encoding.UTF8.GetBytes(token);
    Native.Check(Native.chorus_client_set_token(handle, bytes, (ulong)bytes.Length));
  }
  public void Stop() { Native.Check(Native.chorus_client_stop(handle)); }

  // The model that the latest round began with, or null while there is none.
  public Model FetchModel() {
    IntPtr made;
    int code = Native.chorus_client_fetch_model(handle, out made);
    if (code == Native.NotFound || code == Native.Unavailable) return null;
    Native.Check(code);
    return new Model(made);
  }

  public void Dispose() {
    if (handle != IntPtr.Zero) Native.chorus_client_destroy(handle);
    handle = IntPtr.Zero;
  }

  public static string Version { get { return Native.Text(Native.chorus_version()); } }
}

}
