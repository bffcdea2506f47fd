// Where long work lets its host have a turn: between pieces of some tens of microseconds.
#pragma once

namespace chorus {

// What long work is paced by. `breathe` may keep the caller for as long as it likes and changes
// nothing that the work sees. A pointer to a function rather than a virtual one, so that files
// compiled for one instruction set emit nothing that others could be linked to.
struct Pace {
  void (*breathe)(Pace& self) = nullptr;
};

inline void Breathe(Pace* pace) {
  if (pace != nullptr) pace->breathe(*pace);
}

// Calls each(begin, end) for neighbouring pieces of 0 to count, with a breath before each. A piece
// is a whole number of vectors on every path, so that cutting changes no bit of elementwise work.
template <typename Count, typename Each>
void InPieces(Pace* pace, Count count, const Each& each) {
  constexpr Count kPiece = 8192;
  for (Count begin = 0; begin < count; begin += kPiece) {
    Breathe(pace);
    each(begin, count - begin < kPiece ? count : begin + kPiece);
  }
}

}  // namespace chorus
