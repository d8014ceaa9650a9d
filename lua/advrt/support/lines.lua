--- Text for a terminal: lines of at most 100 letters, and tables that fit.

local lines = {}

local WIDTH = 100 -- of a terminal's line
local GAP = "  "  -- between two columns

--- A text as lines, broken between words.
function lines.wrap(text)
    local list = {}
    for word in text:gmatch("[^ ]+") do
        local last = list[#list]
        if last and utf8.len(last) + 1 + utf8.len(word) <= WIDTH then
            list[#list] = last .. " " .. word
        else
            list[#list + 1] = word
        end
    end
    return list
end

local function length(text) return utf8.len(text) or #text end

--- The widths of the columns; a first text of more than `room` letters does not count.
local function widths_of(rows, room)
    local widths = {0}
    for _, row in ipairs(rows) do
        for k, text in ipairs(row) do
            if k > 1 or length(text) <= room then
                widths[k] = math.max(widths[k] or 0, length(text))
            end
        end
    end
    return widths
end

--- The columns behind the first, in groups that fit beside it: array of {first, last}.
local function blocks_of(widths)
    local blocks, used = {}, 0
    for k = 2, #widths do
        used = used + #GAP + widths[k]
        if #blocks == 0 or widths[1] + used > WIDTH then
            blocks[#blocks + 1], used = {k, k}, #GAP + widths[k]
        end
        blocks[#blocks][2] = k
    end
    return blocks
end

--- Rows of texts as lines of columns. A first text of more than `room` letters has a line of its own. Columns
-- that do not fit stand in a block of their own below, with the first column again.
function lines.columns(rows, room)
    local widths, list = widths_of(rows, room), {}
    for b, block in ipairs(blocks_of(widths)) do
        if b > 1 then list[#list + 1] = "" end
        for _, row in ipairs(rows) do
            local first = row[1]
            if length(first) > room then
                list[#list + 1], first = first, ""
            end
            local parts = {first .. (" "):rep(widths[1] - length(first))}
            for k = block[1], block[2] do
                local text = row[k] or ""
                parts[#parts + 1] = text .. (" "):rep(widths[k] - length(text))
            end
            list[#list + 1] = table.concat(parts, GAP):gsub(" +$", "")
        end
    end
    return list
end

return lines
