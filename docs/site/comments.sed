# Our comments are plain `//`; Doxygen reads `///` above a declaration and `///<` behind one.
s|^\( *\)//\([^/]\)|\1///\2|
s|^\( *\)//$|\1///|
s|\([;,{}A-Za-z0-9)]\)  *// |\1  ///< |
