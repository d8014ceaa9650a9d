--- What pages are made of: text of others made harmless, files as data URIs, and gnuplot's pictures as
-- inline SVG that follows the page's colours.

local csv = require "advrt.csv"
local fail = require "advrt.fail"
local json = require "advrt.json"
local system = require "advrt.core.system"

local html = {}

local entities = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;"}

local function harmless(character)
    return system.printable(character) ~= character and "\u{FFFD}" or nil
end

--- Text as HTML, between tags or in a quoted attribute. Bytes that are no UTF-8 become \xHH, control
-- characters and those that change the direction of writing U+FFFD.
function html.text(text)
    return (json.utf8(tostring(text)):gsub("[&<>\"']", entities):gsub("%c", "\u{FFFD}")
        :gsub("[\xC2-\xF4][\x80-\xBF]+", harmless))
end

--- A name that someone else chose, such as a file's: what it does to the direction of writing ends
-- with it.
function html.name(text) return "<bdi>" .. html.text(text) .. "</bdi>" end

--- A value as JSON inside a script element, which nothing in it can end.
function html.json(value) return (json.encode(value):gsub("<", "\\u003c")) end

--- The two digits of 12 bits in base64, from 0.
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

--- The bytes of a file, or a failure.
function html.file(path)
    local bytes, message = csv.read(path)
    if not bytes then fail("%s", message) end
    return bytes
end

--- A PNG file as a data URI.
function html.png(path) return "data:image/png;base64," .. html.base64(html.file(path)) end

-- SVG: what a drawing needs and no more, so that a picture from anywhere can only be looked at.

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

--- A colour as a variable of the page's, which falls back to the colour itself.
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

--- One attribute as it may stay: its value, or nil. prefix: of the ids.
local function kept(name, value, prefix)
    if colours[name] then return themed(value) end
    if name == "href" then
        local id = value:match("^#([%w_-]+)$")
        return id and "#" .. prefix .. id
    end
    if name == "id" then return value:find("^[%w_-]+$") and prefix .. value end
    return not value:find("[<&:;]") and value or nil
end

local function attributes_of(text, prefix)
    local parts = {}
    for name, quote, rest in text:gmatch("([%w:-]+)%s*=%s*([\"'])()") do
        local value = text:sub(rest, (text:find(quote, rest, true) or 0) - 1):gsub("%s+", " ")
        name = name:gsub("^xlink:", "")
        value = attributes[name] and kept(name, value, prefix)
        if value then parts[#parts + 1] = (' %s="%s"'):format(name, html.text(value)) end
    end
    return table.concat(parts)
end

--- Text between two tags: entities stay, all else is escaped, what looks like a tag's beginning too.
local function characters(text)
    return (json.utf8(text):gsub("&(#?%w*;?)", function(rest)
        return rest:find("^#?%w+;$") and "&" .. rest or "&amp;" .. rest
    end):gsub("[<>]", entities))
end

--- The drawing in an SVG file's text, to stand in a page: `prefix` makes its ids its own, `label` says
-- what it shows. Elements and attributes that a drawing does without are left out, with all that is
-- in them. nil where there is no drawing.
function html.svg(text, prefix, label)
    text = text:gsub("<!%-%-.-%-%->", ""):gsub("<%?.-%?>", ""):gsub("<!%[CDATA%[.-%]%]>", "")
    local parts, hidden, any, at, open = {}, 0, false, 1, {}
    for from, slash, name, inside, empty, to in text:gmatch("()<(/?)([%a][%w:]*)([^<>]-)(/?)>()") do
        if hidden == 0 and any then parts[#parts + 1] = characters(text:sub(at, from - 1)) end
        at = to
        local shown = elements[name]
        if not shown or hidden > 0 then
            hidden = hidden + (empty == "/" and 0 or slash == "/" and -1 or 1)
            hidden = math.max(0, hidden)
        elseif slash == "/" then
            if open[#open] == name then parts[#parts + 1] = "</" .. table.remove(open) .. ">" end
        else
            local extra = ""
            if name == "svg" and not any then
                extra = (' role="img" aria-label="%s" style="--vw:%d"'):format(html.text(label),
                    inside:match("viewBox%s*=%s*[\"']%s*%S+%s+%S+%s+(%d%d?%d?%d?%d?)%D") or 960)
                inside = inside:gsub("%f[%w]width%s*=%s*[\"'][^\"']*[\"']", "")
                    :gsub("%f[%w]height%s*=%s*[\"'][^\"']*[\"']", "")
                any = true
            end
            if empty == "" then open[#open + 1] = name end
            parts[#parts + 1] = ("<%s%s%s%s>"):format(name, extra, attributes_of(inside, prefix), empty)
        end
    end
    for i = #open, 1, -1 do parts[#parts + 1] = "</" .. open[i] .. ">" end
    return any and table.concat(parts) or nil
end

return html
