--- Shows values in a session: short ones on one line, tensors with shape, range, count of NaN and
-- values. Large values are abbreviated.

local arguments = require "advrt.support.check"

local show = {}

local WIDTH = 78     -- width of a line that holds a table
local ENTRIES = 20   -- entries shown of a table
local EDGE = 3       -- rows and columns shown at each end of an abbreviated tensor
local SLICES = 2     -- matrices shown of a tensor with three or more dimensions

local function short(v)
    if type(v) ~= "string" then return tostring(v) end
    local text = #v > 60 and v:sub(1, 60) .. "..." or v
    return (("%q"):format(text):gsub("\\\n", "\\n"))
end

--- The keys of a table: numbers, then texts, then all others, each kind sorted.
local function sorted_keys(t)
    local keys = {}
    for k in pairs(t) do keys[#keys + 1] = k end
    local rank = {number = 1, string = 2}
    table.sort(keys, function(a, b)
        local p, q = rank[type(a)] or 3, rank[type(b)] or 3
        if p ~= q then return p < q end
        if p == 3 then return tostring(a) < tostring(b) end
        return a < b
    end)
    return keys
end

local function is_plain(v) return type(v) == "table" and not (getmetatable(v) or {}).__tostring end

--- The entries of a table as texts. Nested tables take one line each, to `depth` levels.
local function entries_of(t, depth)
    local texts, n = {}, #t
    local keys = sorted_keys(t)
    for i, k in ipairs(keys) do
        if i > ENTRIES then
            texts[#texts + 1] = ("... %d more"):format(#keys - ENTRIES)
            break
        end
        local v = t[k]
        local text = short(v)
        if is_plain(v) and (depth > 0 or next(v) == nil) then
            text = "{" .. table.concat(entries_of(v, depth - 1), ", ") .. "}"
        elseif is_plain(v) then
            text = "{...}"
        end
        local listed = math.type(k) == "integer" and k >= 1 and k <= n
        if not listed then
            local name = type(k) == "string" and k:match("^[%a_][%w_]*$") or "[" .. short(k) .. "]"
            text = name .. " = " .. text
        end
        texts[#texts + 1] = text
    end
    return texts
end

local function table_text(t)
    local texts = entries_of(t, 1)
    local line = "{" .. table.concat(texts, ", ") .. "}"
    if #line <= WIDTH then return line end
    for i, text in ipairs(texts) do
        texts[i] = "  " .. (#text > WIDTH and text:sub(1, WIDTH - 3) .. "..." or text)
    end
    return "{\n" .. table.concat(texts, ",\n") .. "\n}"
end

--- The indices of 1 .. n to show: all, or those at each end, with false between them.
local function places(n)
    local list = {}
    for i = 1, n do
        if n <= 2 * EDGE + 1 or i <= EDGE or i > n - EDGE then
            list[#list + 1] = i
        elseif i == EDGE + 1 then
            list[#list + 1] = false
        end
    end
    return list
end

local function element(v)
    if v ~= v then return "nan" end
    if math.type(v) == "float" then return ("%.5g"):format(v) end
    return tostring(v)
end

--- The lines of a tensor of one or two dimensions.
local function matrix(x, lines, indent)
    local columns = places(x:size(x:dim()))
    local rows, cells, width = x:dim() == 2 and places(x:size(1)) or {1}, {}, 0
    for r, i in ipairs(rows) do
        cells[r] = {}
        for c, j in ipairs(i and columns or {}) do
            local text = j and element(x:dim() == 2 and x:get(i, j) or x:get(j))
            cells[r][c] = text
            width = math.max(width, text and #text or 0)
        end
    end
    for _, row in ipairs(cells) do
        for c, text in ipairs(row) do
            row[c] = text and (" "):rep(width - #text) .. text or "..."
        end
        lines[#lines + 1] = indent .. (row[1] and table.concat(row, "  ") or "...")
    end
end

--- The matrices of a tensor, each below its index.
local function slices(x, lines)
    local shape = x:shape()
    local H, W = shape[#shape - 1], shape[#shape]
    local count = x:numel() // (H * W)
    local flat = x:reshape {count, H, W}
    for s = 1, math.min(count, SLICES) do
        local place, rest = {}, s - 1
        for d = #shape - 2, 1, -1 do
            place[d] = rest % shape[d] + 1
            rest = rest // shape[d]
        end
        lines[#lines + 1] = ("  [%s,.,.]"):format(table.concat(place, ","))
        matrix(flat[s], lines, "    ")
    end
    if count > SLICES then lines[#lines + 1] = ("  ... %d more"):format(count - SLICES) end
end

--- A tensor: a line with type, shape, range and count of NaN, then its values. It shows at most
-- three at each end of a dimension, and two matrices.
local function tensor_text(x)
    local head = tostring(x)
    local emptied = head:find("emptied", 1, true)
    if emptied or x:numel() == 0 then return head end
    local lines = {head}
    if x:dim() == 0 then
        lines[2] = "  " .. element(x:item())
    elseif x:dim() <= 2 then
        matrix(x, lines, "  ")
    else
        slices(x, lines)
    end
    return table.concat(lines, "\n")
end

--- The text for a value.
function show.value(v)
    if arguments.is_tensor(v) then return tensor_text(v) end
    if is_plain(v) then return table_text(v) end
    return tostring(v)
end

--- The text for several values (from table.pack): one line if each takes one line.
function show.values(values)
    local texts, separator = {}, "\t"
    for i = 1, values.n do
        texts[i] = show.value(values[i])
        if texts[i]:find("\n", 1, true) then separator = "\n" end
    end
    return table.concat(texts, separator)
end

return show
