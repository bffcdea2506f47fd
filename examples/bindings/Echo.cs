// Tries the C# binding without a server: mcs Echo.cs Chorus.cs, then mono Echo.exe.
using System;
using System.Collections.Generic;
using System.Linq;
using Chorus;

static class Echo {
  static void Expect(bool holds, string what) {
    if (holds) return;
    Console.Error.WriteLine("does not hold: " + what);
    Environment.Exit(1);
  }

  static void Refuses<E>(Action call, string what) where E : Exception {
    try {
      call();
    } catch (E) {
      return;
    }
    Expect(false, what + " is refused");
  }

  // A frame without an event leaves nothing behind: as many as would fill the nursery many times.
  static void MakesNoGarbage(Client client, Model model) {
    var features = new[] { 0.5f, -1 };
    var outputs = new float[2];
    Expect(client.Poll(0).Count == 0, "a poll without a budget plays nothing");
    model.Predict(features, outputs);
    Expect(outputs.SequenceEqual(features), "the echo in the host's buffer");
    int before = GC.CollectionCount(0);
    for (int i = 0; i < 500000; ++i) {
      foreach (var e in client.Poll(0)) Expect(false, "no event, and not " + e.Kind);
      model.Predict(features, outputs);
    }
    Expect(GC.CollectionCount(0) == before, "frames make no garbage");
    client.Poll(0).Add(new Event());
    Expect(client.Poll(0).Count == 0, "what the host adds to the empty list is not there again");
  }

  static void DefersOnWhatItIsToldTo() {
    foreach (var deferOn in new[] { Signals.OnBattery, Signals.None }) {
      var config = new Config { Echo = true, DeferOn = deferOn, Log = LogLevel.Warnings };
      using (var client = new Client(config)) {
        client.AddExamples(1, new float[] { 1 }, new uint[] { 0 });
        client.Start();
        client.SetSignals(Signals.InCombat);
        Expect(client.Poll(100).Count == 1, "another signal defers nothing");
        client.SetSignals(Signals.OnBattery);
        int events = deferOn == Signals.None ? 1 : 0;
        Expect(client.Poll(100).Count == events, "this one does if it is to");
      }
    }
    var unknown = new Config { Echo = true, DeferOn = (Signals)4096 };
    Refuses<ChorusException>(() => new Client(unknown), "no signal");
  }

  static void TakesTargetsAndKeepsTheMemoryCap() {
    float[] one = { 1, 2 }, two = { 1, 2, 3, 5 }, half = { 1, 2, 3 };
    uint[] label = { 0 };
    using (var client = new Client(new Config { Echo = true, MemoryBytesMax = 40 })) {
      client.AddExamples(2, two, targets: two);
      Refuses<ChorusException>(() => client.AddExamples(2, one, label), "another kind");
      Refuses<ChorusException>(() => client.AddExamples(2, one, targets: one), "too many numbers");
      Refuses<ArgumentException>(() => client.AddExamples(2, half), "half an example");
      Refuses<ArgumentException>(() => client.AddExamples(1, one, label), "a label too few");
      Refuses<ArgumentException>(() => client.AddExamples(2, two, targets: half), "half a target");
    }
    using (var client = new Client(new Config { Echo = true }))
      client.AddExamples(2, new float[] { 1, 2, 3, 5 });
  }

  static void Main() {
    using (var client = new Client(new Config { Echo = true, Server = "echo.example:7447" })) {
      try {
        client.Start();
        Expect(false, "a client without examples does not start");
      } catch (ChorusException error) {
        Expect(error.Code == 9 && error.Message.Contains("no examples"), error.Message);
      }
      client.AddExamples(2, new float[] { 1, 2, 3, 5 }, new uint[] { 0, 1 });
      client.Start();
      client.SetSignals(Signals.InCombat);
      Expect(client.Poll(100).Count == 0, "nothing happens in combat");
      client.SetSignals(Signals.None);
      var events = new List<Event>();
      for (int i = 0; i < 5; ++i) events.AddRange(client.Poll(100));
      Expect(events.Select(e => e.Kind).SequenceEqual(new[] { EventKind.Connected, EventKind.Invited,
          EventKind.Trained, EventKind.Uploaded, EventKind.Contributed }), "the story of a round");
      Expect(events[0].Message == "echo.example:7447" && events[4].Round == 1, "its fields");
      using (var model = client.FetchModel()) {
        Expect(model.Inputs == 2 && model.Outputs == 2, "the model's shape");
        Expect(model.Weights().SequenceEqual(new[] { 2f, 3.5f }), "the means of the features");
        Expect(model.Predict(0.5f, -1, 4, 8).SequenceEqual(new[] { 0.5f, -1, 4, 8 }), "the echo");
        MakesNoGarbage(client, model);
        Refuses<ChorusException>(() => model.Predict(new float[2], new float[3]), "a long buffer");
      }
      client.Stop();
      Expect(client.Poll(100).Single().Kind == EventKind.Stopped, "the end");
    }
    DefersOnWhatItIsToldTo();
    TakesTargetsAndKeepsTheMemoryCap();
    Console.WriteLine("C# binding works with Chorus " + Client.Version);
  }
}
