--- Parts of pages: untrusted text made safe, files as data URIs, and gnuplot's pictures as inline
-- SVG in the page's colours.

local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local json = require "advrt.support.json"
local system = require "advrt.core.system"

local html = {}

local entities = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;"}

local function harmless(character)
    return system.printable(character) ~= character and "\u{FFFD}" or nil
end

--- Text as HTML, between tags or in a quoted attribute. Bytes that are not UTF-8 become \xHH;
-- control characters and characters that change the direction of writing become U+FFFD.
function html.text(text)
    return (json.utf8(tostring(text)):gsub("[&<>\"']", entities):gsub("%c", "\u{FFFD}")
        :gsub("[\xC2-\xF4][\x80-\xBF]+", harmless))
end

--- A name from outside, such as a file's. Its effect on the direction of writing ends after it.
function html.name(text) return "<bdi>" .. html.text(text) .. "</bdi>" end

--- A value as JSON inside a script element; no text in it can end the element.
function html.json(value) return (json.encode(value):gsub("<", "\\u003c")) end

--- The two base64 digits of each 12-bit number, from 0.
local twelve = {}
do
    local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for v = 0, 4095 do
        local high, low = (v >> 6) + 1, (v & 63) + 1
        twelve[v] = digits:sub(high, high) .. digits:sub(low, low)
    end
end

--- Bytes in base64.
function html.base64(bytes)
    local parts = {}
    for i = 1, #bytes, 3 do
        local a, b, c = bytes:byte(i, i + 2)
        local v = a << 16 | (b or 0) << 8 | (c or 0)
        parts[#parts + 1] = twelve[v >> 12]
        parts[#parts + 1] = twelve[v & 4095]
    end
    local rest = #bytes % 3
    local text = table.concat(parts)
    return rest == 0 and text or text:sub(1, rest - 4) .. ("="):rep(3 - rest)
end

--- The bytes of a file; fails if it cannot be read.
function html.file(path)
    local bytes, message = csv.read(path)
    if not bytes then fail("%s", message) end
    return bytes
end

--- A PNG file as a data URI.
function html.png(path) return "data:image/png;base64," .. html.base64(html.file(path)) end

-- SVG: only elements and attributes that a drawing needs, so that a picture from anywhere is only
-- an image.

local function set(text)
    local names = {}
    for name in text:gmatch("%S+") do names[name] = true end
    return names
end

local elements = set "svg g path rect circle ellipse line polygon polyline text tspan defs use"
local attributes = set [[x y x1 y1 x2 y2 cx cy r rx ry dx dy width height viewBox d points id href
    fill stroke color fill-opacity stroke-opacity opacity stroke-width stroke-linecap stroke-linejoin
    stroke-dasharray transform text-anchor font-size font-weight font-style shape-rendering]]
local colours = set "fill stroke color"
local named = {black = "000000", white = "ffffff", lightgrey = "d3d3d3"}

--- A colour as a variable of the page; the colour itself is the fallback.
local function themed(value)
    local r, g, b = value:match("^rgb%(%s*(%d+),%s*(%d+),%s*(%d+)%s*%)$")
    local hex = named[value] or value:match("^#(%x%x%x%x%x%x)$")
    if r then
        r, g, b = tonumber(r), tonumber(g), tonumber(b)
        if r < 256 and g < 256 and b < 256 then hex = ("%02x%02x%02x"):format(r, g, b) end
    end
    if hex then return ("var(--g%s,#%s)"):format(hex:lower(), hex:lower()) end
    return (value == "none" or value == "currentColor") and value or nil
end

--- The value of an attribute if it is allowed, or nil. prefix: for the ids.
local function kept(name, value, prefix)
    if colours[name] then return themed(value) end
    if name == "href" then
        local id = value:match("^#([%w_-]+)$")
        return id and "#" .. prefix .. id
    end
    if name == "id" then return value:find("^[%w_-]+$") and prefix .. value end
    return not value:find("[<&:;]") and value or nil
end

--- The attributes in a tag's text, an array of {name, value}. It reads each character once, because
-- a hostile file must not take quadratic time.
local function attributes_in(text)
    local list, at = {}, 1
    while true do
        local name, after = text:match("([%w:-]+)()", at)
        if not name then return list end
        local quote, from = text:match("^%s*=%s*([\"'])()", after)
        local to = quote and text:find(quote, from, true)
        if quote and not to then return list end
        if to then list[#list + 1] = {name:gsub("^xlink:", ""), (text:sub(from, to - 1):gsub("%s+", " "))} end
        at = to and to + 1 or after
    end
end

--- The allowed attributes as text. `but`: names of allowed ones to omit.
local function attributes_of(list, prefix, but)
    local parts = {}
    for _, one in ipairs(list) do
        local name, value = table.unpack(one)
        value = attributes[name] and not but[name] and kept(name, value, prefix)
        if value then parts[#parts + 1] = (' %s="%s"'):format(name, html.text(value)) end
    end
    return table.concat(parts)
end

--- Text between two tags: entities stay; everything else is escaped, including text that looks like
-- the start of a tag.
local function characters(text)
    return (json.utf8(text):gsub("&(#?%w*;?)", function(rest)
        return rest:find("^#?%w+;$") and "&" .. rest or "&amp;" .. rest
    end):gsub("[<>]", entities))
end

-- The markup that is omitted with its contents: its beginning and its end.
local passed_over = {["<!--"] = "-->", ["<?"] = "?>", ["<![CDATA["] = "]]>"}

--- Scans the text of an XML file once. Calls characters(text) for text between tags, and
-- element(slash, name, inside, empty) for each tag. Something that only looks like a tag counts as
-- text.
local function scan(text, on_characters, on_element)
    local missing, shown, at = {}, 1, 1 -- absent ends; end of the reported text; scan position
    while true do
        local from = text:find("<", at, true)
        if not from then return on_characters(text:sub(shown)) end
        at = from + 1
        local start = text:match("^<!%-%-", from) or text:match("^<%?", from)
            or text:match("^<!%[CDATA%[", from)
        local slash, name, after = text:match("^<(/?)(%a[%w:]*)()", from)
        local stop = name and text:find("[<>]", after)
        local to = stop and text:byte(stop) == (">"):byte() and stop + 1
        if start and not missing[start] then
            local _, last = text:find(passed_over[start], from + #start, true)
            missing[start] = not last
            to = last and last + 1
        end
        if to then
            on_characters(text:sub(shown, from - 1))
            shown, at = to, to
        end
        if to and name then
            local empty = text:sub(stop - 1, stop - 1) == "/" and stop > after and "/" or ""
            on_element(slash, name, text:sub(after, stop - 1 - #empty), empty)
        end
    end
end

--- The drawing in an SVG file's text, for use inside a page. `prefix` makes its ids unique; `label`
-- describes the drawing. Elements and attributes that a drawing does not need are omitted, with
-- their contents. nil if there is no drawing.
function html.svg(text, prefix, label)
    local parts, hidden, any, open = {}, 0, false, {}
    local size = {width = true, height = true}
    local function put(piece) parts[#parts + 1] = piece end
    scan(text, function(piece)
        if hidden == 0 and any then put(characters(piece)) end
    end, function(slash, name, inside, empty)
        if not elements[name] or hidden > 0 then
            hidden = math.max(0, hidden + (empty == "/" and 0 or slash == "/" and -1 or 1))
        elseif slash == "/" then
            if open[#open] == name then put("</" .. table.remove(open) .. ">") end
        else
            local list, extra, first = attributes_in(inside), "", name == "svg" and not any
            if first then
                local wide
                for _, one in ipairs(list) do
                    wide = wide or one[1] == "viewBox" and one[2]:match("^ ?%S+ %S+ (%d%d?%d?%d?%d?)%D")
                end
                extra = (' role="img" aria-label="%s" style="--vw:%d"'):format(html.text(label), wide or 960)
                any = true
            end
            if empty == "" then open[#open + 1] = name end
            put(("<%s%s%s%s>"):format(name, extra, attributes_of(list, prefix, first and size or {}), empty))
        end
    end)
    for i = #open, 1, -1 do put("</" .. open[i] .. ">") end
    return any and table.concat(parts) or nil
end

return html
