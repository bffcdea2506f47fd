# Writes OUTPUT, a source that holds the files of FOLDER: cmake -DFOLDER=... -DOUTPUT=... -P embed.cmake
function(embed path type file)
  file(READ ${FOLDER}/${file} digits HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" escaped "${digits}")
  # Short literals side by side: compilers bound the length of one.
  string(REGEX REPLACE "(................................................................)" "\\1\"\n    \"" escaped
         "${escaped}")
  string(LENGTH "${digits}" length)
  math(EXPR bytes "${length} / 2")
  set(assets "${assets}    {\"${path}\", \"${type}\",\n    std::string_view(\"${escaped}\", ${bytes})},\n"
      PARENT_SCOPE)
endfunction()
set(assets "")
embed("/" "text/html; charset=utf-8" index.html)
embed("/page.css" "text/css; charset=utf-8" page.css)
embed("/page.js" "text/javascript; charset=utf-8" page.js)
embed("/charts.js" "text/javascript; charset=utf-8" charts.js)
embed("/icon.svg" "image/svg+xml" icon.svg)
file(WRITE ${OUTPUT} "// Made by embed.cmake.
#include \"coordinator/web_pages.h\"

namespace chorus::coordinator {
namespace {
const WebAsset kAssets[] = {
${assets}};
}  // namespace
std::span<const WebAsset> WebAssets() { return kAssets; }
}  // namespace chorus::coordinator
")
