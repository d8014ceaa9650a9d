--- The known name nearest to a mistyped one, for messages.

--- Edit distance (insert, delete, replace, swap of neighbours) between two strings.
local function distance(a, b)
    local before, row = nil, {}
    for j = 0, #b do row[j] = j end
    for i = 1, #a do
        local last = row
        row = {[0] = i}
        for j = 1, #b do
            local same = a:byte(i) == b:byte(j)
            row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
            if before and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                row[j] = math.min(row[j], before[j - 2] + 1)
            end
        end
        before = last
    end
    return row[#b]
end

--- Returns the element of `names` (an array of strings) nearest to `name`, the first of several
-- at the same distance; nil where `names` is empty.
return function(name, names)
    local best, least
    for _, known in ipairs(names) do
        local d = distance(name:lower(), known:lower())
        if not least or d < least then best, least = known, d end
    end
    return best
end
