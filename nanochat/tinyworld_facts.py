"""What is known in the tiny world: facts, each with the phrasings in which it can be told or asked.

A relation ("capital") has facts (France, Paris) and phrasings ("The capital of {s} is {o}."). Every pair of a fact and a
phrasing is a *telling*. About one telling in eight is held out, by rule: the corpus never contains it, although it tells the
same fact in other phrasings and other facts in the same phrasing. Later stages test on the held-out ones, so what they measure is
whether a model can recombine what it knows. Phrasing 0 is the plainest one of each relation and is never held out; nor is a telling whose
prompt has several right answers ("Bats are bigger than").

In a phrasing, '|' parts a question from its answer, and the answer of a telling is whatever the last field stands for:
"{o} is the capital of {s}." asks for the country. What comes before it is the prompt.
"""

import zlib
from functools import cache
from string import Formatter
from typing import NamedTuple

HELD_OUT_ONE_IN = 8
FOLLOW_UP = 200  # as a phrasing: "And Spain?"


class Telling(NamedTuple):
    relation: str
    subject: str
    phrasing: int
    prompt: str  # "The capital of France is", or a whole question
    answer: str  # "Paris"
    text: str  # "The capital of France is Paris.", or the answer's sentence if the prompt is a question
    is_question: bool
    held_out: bool


class Relation(NamedTuple):
    name: str
    phrasings: tuple[str, ...]
    facts: dict[str, dict[str, str]]  # subject → what fills the fields of a phrasing


def is_held_out(relation: str, subject: str, phrasing: int) -> bool:
    """The rule. CRC-32 is the same on every machine, which Python's own hash is not."""
    return phrasing > 0 and zlib.crc32(f"{relation}|{subject}|{phrasing}".encode()) % HELD_OUT_ONE_IN == 0


# --- small grammar ---------------------------------------------------------------------------------------------------


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def plural(noun: str) -> str:
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def possessive(name: str) -> str:
    return name + ("'" if name.endswith("s") else "'s")


def number_word(n: int) -> str:
    """0 … 100 in words."""
    if n < 20:
        return SMALL_NUMBERS[n]
    if n == 100:
        return "one hundred"
    tens, ones = divmod(n, 10)
    return TENS[tens - 2] + (f"-{SMALL_NUMBERS[ones]}" if ones else "")


def listing(items: list[str] | tuple[str, ...]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


SMALL_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
                 "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
SEASONS = ("spring", "summer", "autumn", "winter")
PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
RAINBOW = ("red", "orange", "yellow", "green", "blue", "indigo", "violet")
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
IRREGULAR_PLURALS = {
    "mouse": "mice", "goose": "geese", "wolf": "wolves", "sheep": "sheep", "deer": "deer", "fish": "fish", "salmon": "salmon",
    "child": "children", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth", "leaf": "leaves", "knife": "knives",
    "loaf": "loaves", "shelf": "shelves", "half": "halves", "calf": "calves", "octopus": "octopuses", "life": "lives", "wife": "wives",
    "thief": "thieves", "scarf": "scarves", "potato": "potatoes", "tomato": "tomatoes", "person": "people", "ox": "oxen",
    "hero": "heroes", "echo": "echoes",
}  # fmt: skip

# --- tables: one line a row, columns parted by '|' -------------------------------------------------------------------

COUNTRIES = """France|Paris|Europe|French
Spain|Madrid|Europe|Spanish
Italy|Rome|Europe|Italian
Germany|Berlin|Europe|German
Portugal|Lisbon|Europe|Portuguese
Greece|Athens|Europe|Greek
Austria|Vienna|Europe|German
Belgium|Brussels|Europe|
Poland|Warsaw|Europe|Polish
Hungary|Budapest|Europe|Hungarian
Sweden|Stockholm|Europe|Swedish
Norway|Oslo|Europe|Norwegian
Denmark|Copenhagen|Europe|Danish
Finland|Helsinki|Europe|Finnish
Iceland|Reykjavik|Europe|Icelandic
Ireland|Dublin|Europe|English
the United Kingdom|London|Europe|English
Romania|Bucharest|Europe|Romanian
Bulgaria|Sofia|Europe|Bulgarian
Serbia|Belgrade|Europe|Serbian
Croatia|Zagreb|Europe|Croatian
Ukraine|Kyiv|Europe|Ukrainian
Russia|Moscow||Russian
Turkey|Ankara||Turkish
Egypt|Cairo|Africa|Arabic
Morocco|Rabat|Africa|Arabic
Tunisia|Tunis|Africa|Arabic
Kenya|Nairobi|Africa|
Ethiopia|Addis Ababa|Africa|
Ghana|Accra|Africa|
Senegal|Dakar|Africa|
Nigeria|Abuja|Africa|
Uganda|Kampala|Africa|
Zambia|Lusaka|Africa|
Namibia|Windhoek|Africa|
Mali|Bamako|Africa|
China|Beijing|Asia|Chinese
Japan|Tokyo|Asia|Japanese
South Korea|Seoul|Asia|Korean
India|New Delhi|Asia|
Nepal|Kathmandu|Asia|Nepali
Bangladesh|Dhaka|Asia|Bengali
Thailand|Bangkok|Asia|Thai
Vietnam|Hanoi|Asia|Vietnamese
Cambodia|Phnom Penh|Asia|Khmer
the Philippines|Manila|Asia|
Mongolia|Ulaanbaatar|Asia|Mongolian
Iran|Tehran|Asia|Persian
Iraq|Baghdad|Asia|Arabic
Jordan|Amman|Asia|Arabic
Oman|Muscat|Asia|Arabic
Canada|Ottawa|North America|English
the United States|Washington|North America|English
Mexico|Mexico City|North America|Spanish
Cuba|Havana|North America|Spanish
Jamaica|Kingston|North America|English
Brazil|Brasilia|South America|Portuguese
Argentina|Buenos Aires|South America|Spanish
Chile|Santiago|South America|Spanish
Peru|Lima|South America|Spanish
Colombia|Bogota|South America|Spanish
Ecuador|Quito|South America|Spanish
Venezuela|Caracas|South America|Spanish
Uruguay|Montevideo|South America|Spanish
Australia|Canberra||English
New Zealand|Wellington||English"""

ELEMENTS = """hydrogen|H|gas|1
helium|He|gas|2
lithium|Li|metal|3
carbon|C||6
nitrogen|N|gas|7
oxygen|O|gas|8
fluorine|F|gas|9
neon|Ne|gas|10
sodium|Na|metal|11
magnesium|Mg|metal|12
aluminum|Al|metal|13
silicon|Si||14
phosphorus|P||15
sulfur|S||16
chlorine|Cl|gas|17
argon|Ar|gas|18
potassium|K|metal|19
calcium|Ca|metal|20
titanium|Ti|metal|22
iron|Fe|metal|26
cobalt|Co|metal|27
nickel|Ni|metal|28
copper|Cu|metal|29
zinc|Zn|metal|30
bromine|Br||35
krypton|Kr|gas|36
silver|Ag|metal|47
tin|Sn|metal|50
iodine|I||53
xenon|Xe|gas|54
tungsten|W|metal|74
platinum|Pt|metal|78
gold|Au|metal|79
mercury|Hg|metal|80
lead|Pb|metal|82
uranium|U|metal|92"""

# name | class | eats | lives | young | sound | legs | size rank (a bigger rank is a bigger animal)
ANIMALS = """ant|insect|seeds|in an anthill|||six|1
bee|insect|nectar|in a hive||buzz|six|2
butterfly|insect|nectar|in meadows|caterpillar||six|2
ladybug|insect|tiny insects|in gardens|||six|1
spider||flies|in a web|||eight|2
snail||leaves|in damp gardens|||zero|2
mouse|mammal|seeds|in a hole in the wall||squeak|four|4
bat|mammal|moths|in caves|pup||two|4
hedgehog|mammal|slugs|under hedges|hoglet||four|5
squirrel|mammal|nuts|in trees|||four|5
rabbit|mammal|clover|in a burrow|||four|6
cat|mammal|fish|in houses|kitten|meow|four|6
dog|mammal|meat|in houses|puppy|bark|four|7
fox|mammal|mice|in a den|cub||four|7
wolf|mammal|deer|in forests|pup|howl|four|8
sheep|mammal|grass|in meadows|lamb|bleat|four|8
goat|mammal|leaves|on hills|kid|bleat|four|8
pig|mammal|roots|in a sty|piglet|oink|four|8
deer|mammal|leaves|in forests|fawn||four|9
cow|mammal|grass|in a barn|calf|moo|four|11
horse|mammal|hay|in a stable|foal|neigh|four|11
donkey|mammal|hay|in a stable|foal|bray|four|10
lion|mammal|meat|in grasslands|cub|roar|four|10
tiger|mammal|deer|in forests|cub|roar|four|10
zebra|mammal|grass|in grasslands|foal||four|11
camel|mammal|thorny plants|in deserts|calf||four|12
kangaroo|mammal|grass|in Australia|joey|||9
koala|mammal|eucalyptus leaves|in trees|joey||four|6
panda|mammal|bamboo|in forests|cub||four|9
bear|mammal|berries|in forests|cub|growl|four|11
monkey|mammal|fruit|in trees||||6
giraffe|mammal|leaves|in grasslands|calf||four|13
elephant|mammal|leaves|in grasslands|calf|trumpet|four|14
dolphin|mammal|fish|in the sea|calf||zero|10
whale|mammal|krill|in the sea|calf||zero|15
hen|bird|grain|in a coop|chick|cluck|two|5
duck|bird|water plants|on ponds|duckling|quack|two|5
goose|bird|grass|on ponds|gosling|honk|two|6
swan|bird|water plants|on lakes|cygnet||two|7
owl|bird|mice|in trees|owlet|hoot|two|5
eagle|bird|fish|in the mountains|eaglet|screech|two|6
crow|bird|grain|in trees||caw|two|5
parrot|bird|fruit|in warm forests||squawk|two|5
penguin|bird|fish|on cold coasts|chick||two|7
frog|amphibian|insects|in ponds|tadpole|croak|four|4
snake|reptile|mice|in tall grass||hiss|zero|6
turtle|reptile|sea grass|in the sea||||7
lizard|reptile|insects|on warm rocks|||four|4
crocodile|reptile|fish|in rivers|hatchling||four|11
shark|fish|fish|in the sea|pup||zero|12
salmon|fish|insects|in rivers|||zero|5"""

SOUNDS_S = {"buzz": "buzzes", "hiss": "hisses", "neigh": "neighs", "screech": "screeches"}  # every other sound takes a plain s

COLORS_OF_THINGS = """a banana|yellow
a lemon|yellow
butter|yellow
sweet corn|yellow
an egg yolk|yellow
a sunflower|yellow
snow|white
milk|white
salt|white
cotton|white
chalk|white
flour|white
a swan|white
grass|green
a cucumber|green
spinach|green
a lime|green
broccoli|green
moss|green
an emerald|green
coal|black
a raven|black
tar|black
the sky at midnight|black
blood|red
a ripe strawberry|red
a ripe tomato|red
a ripe cherry|red
a ruby|red
a fire engine|red
a carrot|orange
a pumpkin|orange
a ripe apricot|orange
the clear sky at noon|blue
a blueberry|blue
a sapphire|blue
chocolate|brown
soil|brown
coffee|brown
a walnut|brown
the bark of an oak|brown
ash|gray
an elephant|gray
a flamingo|pink
a pig|pink
a ripe plum|purple
an eggplant|purple
lavender|purple"""

OPPOSITES = """hot|cold
big|small
tall|short
fast|slow
happy|sad
up|down
left|right
open|closed
old|young
light|dark
full|empty
wet|dry
hard|soft
rich|poor
strong|weak
early|late
near|far
high|low
day|night
inside|outside
loud|quiet
clean|dirty
thick|thin
wide|narrow
deep|shallow
sweet|sour
true|false
good|bad
easy|difficult
sharp|blunt
smooth|rough
push|pull
win|lose
buy|sell
give|take
come|go
start|finish
remember|forget
love|hate
laugh|cry
float|sink
arrive|leave
north|south
east|west
first|last
above|below
before|after
always|never
more|less
many|few
front|back
top|bottom
awake|asleep
alive|dead
polite|rude
possible|impossible
safe|dangerous
cheap|expensive
straight|crooked
tight|loose
raw|cooked
friend|enemy
question|answer
entrance|exit
beautiful|ugly
careful|careless
honest|dishonest
same|different
odd|even
brave|timid"""

PAST_TENSE = """go|went
see|saw
eat|ate
drink|drank
run|ran
swim|swam
sing|sang
write|wrote
read|read
speak|spoke
take|took
give|gave
come|came
find|found
think|thought
bring|brought
buy|bought
catch|caught
teach|taught
fly|flew
grow|grew
know|knew
throw|threw
draw|drew
break|broke
wake|woke
sleep|slept
keep|kept
feel|felt
leave|left
make|made
build|built
send|sent
lose|lost
tell|told
sell|sold
hold|held
stand|stood
sit|sat
win|won
begin|began
fall|fell
hide|hid
ride|rode
drive|drove
wear|wore
walk|walked
play|played
look|looked
help|helped
jump|jumped
cook|cooked
paint|painted
carry|carried
try|tried
stop|stopped"""

NOUNS_TO_PLURALIZE = ("cat", "dog", "mouse", "goose", "sheep", "deer", "wolf", "child", "man", "woman", "foot", "tooth", "leaf", "knife",
    "loaf", "shelf", "box", "bus", "dish", "brush", "city", "baby", "berry", "story", "boy", "key", "tree", "house", "potato", "tomato",
    "person", "ox", "hero", "fox", "church", "cherry", "puppy", "calf", "scarf", "boat", "river", "star", "glass", "witch", "toy")  # fmt: skip

KINDS = """apple|fruit
pear|fruit
plum|fruit
cherry|fruit
banana|fruit
peach|fruit
carrot|vegetable
onion|vegetable
cabbage|vegetable
potato|vegetable
rose|flower
tulip|flower
daisy|flower
oak|tree
pine|tree
birch|tree
hammer|tool
saw|tool
spade|tool
axe|tool
piano|musical instrument
violin|musical instrument
flute|musical instrument
drum|musical instrument
trumpet|musical instrument
chair|piece of furniture
table|piece of furniture
bed|piece of furniture
shirt|piece of clothing
coat|piece of clothing
sweater|piece of clothing
car|vehicle
bus|vehicle
truck|vehicle
bicycle|vehicle
triangle|shape
circle|shape
square|shape
sparrow|bird
robin|bird
trout|fish
herring|fish
beetle|insect
wasp|insect"""

MATERIALS = """a window|glass
a tire|rubber
a book|paper
a nail|iron
a sweater|wool
a brick|clay
bread|flour
cheese|milk
butter|cream
a candle|wax
raisins|grapes
honey|nectar
a snowman|snow
paper|wood
a barrel|wood
a wedding ring|gold
a sail|cloth
a shoe|leather
an omelet|eggs
chocolate|cocoa beans
jam|fruit
a castle on the beach|sand
a pillow|feathers"""

JOBS = """baker|bakes bread|in a bakery
teacher|teaches children|in a school
doctor|helps sick people|in a clinic
farmer|grows food|on a farm
fisher|catches fish|on a boat
carpenter|makes things from wood|in a workshop
librarian|looks after books|in a library
gardener|takes care of plants|in a garden
tailor|sews clothes|in a tailor shop
potter|makes pots from clay|in a pottery
blacksmith|shapes hot iron|in a forge
miller|grinds grain into flour|in a mill
cook|prepares meals|in a kitchen
pilot|flies airplanes|in a cockpit
shepherd|looks after sheep|on the hills
beekeeper|keeps bees|beside the hives
painter|paints pictures|in a studio
dentist|takes care of teeth|in a dental clinic
firefighter|puts out fires|at a fire station
astronaut|travels into space|in a spaceship"""

AMOUNTS = """minutes|an hour|60
hours|a day|24
days|a week|7
months|a year|12
seconds|a minute|60
cents|a dollar|100
years|a century|100
years|a decade|10
centimeters|a meter|100
meters|a kilometer|1000
grams|a kilogram|1000
letters|the English alphabet|26
planets|the solar system|8
eggs|a dozen|12
seasons|a year|4
players|a soccer team|11
colors|the rainbow|7
weeks|a year|52"""

SIDES = """triangle|three
square|four
rectangle|four
pentagon|five
hexagon|six
heptagon|seven
octagon|eight"""

PARTS_FOR = """see|eyes
hear|ears
smell|nose
taste|tongue
chew|teeth
walk|legs
think|brain
breathe|lungs
pump blood|heart
wave|hand"""

TOOLS_FOR = """cut paper|scissors
hit a nail|a hammer
dig a hole|a spade
sweep the floor|a broom
tell the time|a clock
write a letter|a pen
eat soup|a spoon
cut bread|a knife
open a lock|a key
keep dry in the rain|an umbrella
measure length|a ruler
measure warmth|a thermometer
look at the stars|a telescope
see very small things|a microscope
find north|a compass
brush your hair|a hairbrush
saw wood|a saw
climb onto a roof|a ladder
catch fish|a net
light a dark room|a lamp"""

PLACES_FOR = """borrow books|the library
buy bread|the bakery
see a doctor|the clinic
catch a train|the station
learn to read|the school
post a letter|the post office
see old paintings|the museum
swim in summer|the lake
see a play|the theater
buy vegetables|the market
board an airplane|the airport
grind grain|the mill"""

# The people of Fernhill, the village of the stories. Who they are never changes, from the first page of the corpus to the last.
# name | kind | job or age | pet | pet's name | favorite color | favorite food | trait | hobby
PEOPLE = """Nora|girl|eight|cat|Biscuit|green|pancakes|curious|painting
Tom|boy|nine|dog|Rusty|blue|apple pie|brave|climbing trees
Mia|girl|seven|rabbit|Clover|yellow|strawberries|gentle|reading
Ben|boy|eight|frog|Hopper|orange|tomato soup|cheerful|catching tadpoles
Lily|girl|ten|parrot|Captain|purple|cherries|clever|solving puzzles
Sam|boy|seven|mouse|Crumb|red|cheese sandwiches|shy|drawing maps
Ella|girl|nine|dog|Pepper|white|noodles|patient|knitting
Max|boy|ten|turtle|Marble|brown|potatoes|stubborn|building boats
Ruby|girl|eight|hen|Dotty|pink|plum cake|funny|telling jokes
Leo|boy|nine|lizard|Spark|green|peanuts|quick|running races
Anna|girl|seven|duck|Puddle|blue|porridge|kind|picking flowers
Finn|boy|eight|cat|Shadow|black|fish stew|quiet|watching the stars
Rosa|girl|ten|puppy|Button|red|corn bread|proud|singing
Jack|boy|nine|crow|Ink|silver|carrots|daring|collecting stones
Zoe|girl|eight|hedgehog|Thistle|orange|pears|careful|growing beans
Omar|boy|ten|pigeon|Comet|gold|rice|generous|playing the drum
Mrs. Bell|woman|baker|cat|Muffin|yellow|fresh bread|warm|humming
Mr. Reed|man|teacher|owl|Plato|brown|mushroom soup|wise|playing chess
Dr. Gray|woman|doctor|dog|Patch|white|salad|calm|riding a bicycle
Mr. Hill|man|farmer|horse|Thunder|green|roast beef|strong|whistling
Mrs. Marsh|woman|fisher|dog|Anchor|blue|grilled fish|tough|carving wood
Mr. Wood|man|carpenter|squirrel|Acorn|red|walnut cake|exact|making toys
Mrs. Page|woman|librarian|cat|Comma|purple|tea and toast|thoughtful|writing poems
Mr. Moss|man|gardener|tortoise|Pebble|green|radishes|peaceful|naming roses
Mrs. Thread|woman|tailor|canary|Stitch|pink|dumplings|neat|dancing
Mr. Clay|man|potter|donkey|Jug|orange|bean stew|dreamy|playing the flute
Mrs. Stone|woman|blacksmith|dog|Ember|black|sausages|bold|arm wrestling
Mr. Wheatley|man|miller|goose|Gust|gold|muffins|jolly|flying kites
Old Ida|woman|shepherd|sheep|Cloud|gray|onion soup|weatherwise|telling stories
Mr. Honeywell|man|beekeeper|goat|Nibble|yellow|honey cake|slow|baking"""

WORDS_TO_SPELL = """apple bread water house garden window yellow orange purple letter summer winter spring autumn monkey rabbit kitten puppy
tiger zebra eagle parrot spider salmon mouse horse sheep river ocean island forest mountain valley meadow bridge castle village market school
teacher doctor farmer baker pencil paper picture story music piano violin guitar flute drum dance soccer bicycle train boat plane rocket
planet moon star cloud storm thunder rain snow wind fire stone sand gold silver copper iron glass wood wool cotton leather button pocket
jacket sweater shirt shoe basket bottle bucket candle carpet chair table kitchen dinner breakfast lunch supper butter cheese honey pepper
sugar carrot potato tomato onion cabbage banana cherry lemon peach pear plum melon grape berry flower tulip daisy rose leaf branch root
seed grass mushroom acorn feather nest egg shell wing tail whisker paw hammer ladder rope wheel engine mirror clock key lock ring lamp
king queen prince knight friend family brother sister mother father uncle cousin baby child people happy gentle brave clever quiet quick
hello sorry please thanks morning evening night today yesterday tomorrow question answer number circle square triangle hundred thousand
balloon coffee giraffe pebble puzzle rubber ribbon slipper squirrel strawberry umbrella whistle yogurt zipper"""


def rows(table: str) -> list[list[str]]:
    return [line.split("|") for line in table.splitlines()]


# --- relations -------------------------------------------------------------------------------------------------------

CAPITAL = ("The capital of {s} is {o}.", "{o} is the capital of {s}.", "What is the capital of {s}?|The capital is {o}.",
           "Which city is the capital of {s}?|It is {o}.", "{S} is a country whose capital city is {o}.",
           "The capital city of {s} is called {o}.", "If you visit the capital of {s}, you are in {o}.",
           "On a map of {s}, the star for the capital stands at {o}.", "Name the capital of {s}.|{o}.",
           "{o} is a famous city because it is the seat of government of {s}.", "Do you know the capital of {s}?|Yes, it is {o}.")  # fmt: skip
CONTINENT = ("{S} is in {o}.", "{S} is a country in {o}.", "On which continent is {s}?|It is in {o}.", "The continent of {s} is {o}.",
             "To see {s} on a globe, look at {o}.", "Which continent does {s} belong to?|{o}.", "You can find {s} on the map of {o}.")  # fmt: skip
LANGUAGE = ("Many people in {s} speak {o}.", "What language do people speak in {s}?|Many of them speak {o}.", "In {s} you will hear {o}.",
            "A traveler in {s} should learn some {o}.", "The street signs in {s} are often written in {o}.",
            "Which language would help you in {s}?|{o} would help.")  # fmt: skip
SYMBOL = ("The chemical symbol of {s} is {o}.", "{o} is the chemical symbol of {s}.", "What is the chemical symbol of {s}?|It is {o}.",
          "Chemists write {s} as {o}.", "In the periodic table, {s} has the symbol {o}.", "The symbol for the element {s} is {o}.",
          "Which symbol stands for {s}?|{o}.", "The sign {o} stands for the element {s}.", "How do chemists write {s}?|They write {o}.")  # fmt: skip
ATOMIC_NUMBER = ("The atomic number of {s} is {o}.", "An atom of {s} has this many protons: {o}.", "What is the atomic number of {s}?|It is {o}.",
                 "Element number {o} in the periodic table is {s}.", "In the periodic table, {s} stands at number {o}.")  # fmt: skip
STATE = ("{S} is a {o}.", "Is {s} a gas or a metal?|It is a {o}.", "The element {s} is a {o}.", "Chemists know that {s} is a {o}.",
         "What kind of element is {s}?|{S} is a {o}.", "When we sort the elements, we call {s} a {o}.")  # fmt: skip
OPPOSITE = ("The opposite of {s} is {o}.", "What is the opposite of {s}?|The opposite is {o}.", "If you turn {s} into its opposite, it becomes {o}.",
            "Here are two opposite words: {s} and {o}.", "The word that means the reverse of {s} is {o}.", "Say the opposite of {s}.|{O}.",
            "For {s} the opposite word is {o}.", "Which word is the opposite of {s}?|It is {o}.")  # fmt: skip
EATS = ("{A} eats {o}.", "{P} eat {o}.", "What do {p} eat?|They eat {o}.", "The food of {a} is {o}.", "A hungry {s} looks for {o}.",
        "If you want to feed {a}, bring {o}.", "What does {a} like to eat?|It likes {o}.", "When {p} are hungry, they eat {o}.")  # fmt: skip
LIVES = ("{P} live {o}.", "Where do {p} live?|They live {o}.", "{A} lives {o}.", "The home of {p} is found {o}.", "You can find {p} {o}.",
         "Where can you find {a}?|You can find it {o}.", "If you look for {p}, look {o}.")  # fmt: skip
YOUNG = ("A baby {s} is called {ao}.", "What is a baby {s} called?|It is called {ao}.", "The young of {a} is {ao}.", "A young {s} is {ao}.",
         "What do you call the young of {a}?|{AO}.", "When {a} has a baby, it has {ao}.")  # fmt: skip
SOUND = ("{P} {o}.", "What sound does {a} make?|{A} {os}.", "The sound that {p} make is called {o}.", "Listen to {a}: it {os}.",
         "When {a} is excited, it {os}.", "What do {p} do when they make a noise?|They {o}.")  # fmt: skip
LEGS = ("{A} has {o} legs.", "How many legs does {a} have?|It has {o} legs.", "The number of legs of {a} is {o}.", "{P} have {o} legs.",
        "Count the legs of {a} and you get {o}.", "How many legs do {p} have?|They have {o} legs.")  # fmt: skip
CLASS = ("{A} is {ao}.", "What kind of animal is {a}?|It is {ao}.", "{P} are {po}.", "The {s} belongs to the {po}.",
         "In the book of animals, {p} are listed under {po}.")  # fmt: skip
COLOR = ("{S} is {o}.", "What color is {s}?|It is {o}.", "The color of {s} is {o}.", "To paint {s}, take {o} paint.", "Everyone knows that {s} is {o}.",
         "Which color does {s} have?|{O}.", "If you draw {s}, you need the {o} pencil.", "In the picture, {s} must be {o}.")  # fmt: skip
PAST = ("The past tense of {s} is {o}.", "Today I {s}. Yesterday I {o}.", "What is the past tense of {s}?|It is {o}.", "Now they {s}. Last week they {o}.",
        "The verb {s} becomes {o} in the past.", "How do you say {s} in the past tense?|You say {o}.")  # fmt: skip
PLURAL = ("The plural of {s} is {o}.", "One {s}, two {o}.", "What is the plural of {s}?|It is {o}.", "If there is more than one {s}, we say {o}.",
          "How do you write more than one {s}?|You write {o}.", "First I had one {s}, and now I have many {o}.")  # fmt: skip
KIND = ("{A} is {ao}.", "What is {a}?|It is {ao}.", "{A} is a kind of {o}.", "If you ask what {a} is, the answer is {ao}.", "The word {s} names {ao}.")  # fmt: skip
MATERIAL = ("{S} {b} made of {o}.", "What {b} {s} made of?|{S} {b} made of {o}.", "To make {s}, you need {o}.", "People make {s} from {o}.", "Which material do you need for {s}?|You need {o}.")  # fmt: skip
DOES = ("{A} {o}.", "What does {a} do?|{A} {o}.", "In the book of jobs, {a} {o}.", "Someone who {o} is {a}.", "Who {o}?|{A} does.",
        "As everyone knows, {a} {o}.")  # fmt: skip
WORKS = ("{A} works {o}.", "Where does {a} work?|{A} works {o}.", "You can meet {a} {o}.", "In the morning {a} begins to work {o}.",
         "The place of work of {a} is {o}.", "Where do you go to find {a}?|Look {o}.")  # fmt: skip
AMOUNT = ("There are {o} {u} in {h}.", "How many {u} are there in {h}?|There are {o}.", "The number of {u} in {h} is {o}.", "In {h} there are {o} {u}.",
          "Count the {u} in {h}: you get {o}.", "{H} has {o} {u}.", "How many {u} does {h} have?|It has {o}.")  # fmt: skip
SIDE = ("{A} has {o} sides.", "How many sides does {a} have?|It has {o} sides.", "The number of sides of {a} is {o}.",
        "Count the sides of {a}: there are {o}.", "{A} also has {o} corners.")  # fmt: skip
PART_FOR = ("We {s} with our {o}.", "Which part of the body do we use to {s}?|We use our {o}.", "To {s}, you need your {o}.",
            "What do you {s} with?|With your {o}.", "With no {o} nobody could {s}.", "It is thanks to our {o} that we can {s}.")  # fmt: skip
TOOL_FOR = ("To {s}, you use {o}.", "What do you need to {s}?|You need {o}.", "If you want to {s}, take {o}.", "People use {o} to {s}.",
            "Which thing helps you to {s}?|{O} will help.", "It is easier to {s} with {o}.")  # fmt: skip
PLACE_FOR = ("You can {s} at {o}.", "Where can you {s}?|At {o}.", "To {s}, go to {o}.", "People go to {o} to {s}.",
             "If you want to {s}, the right place is {o}.", "Which place would you visit to {s}?|I would visit {o}.")  # fmt: skip
TOMORROW = ("If yesterday was {s}, then tomorrow will be {o}.", "Yesterday was {s}, so tomorrow is {o}.", "Yesterday was {s}. What day is tomorrow?|Tomorrow is {o}.",
            "When {s} was yesterday, the day that comes tomorrow is {o}.", "If yesterday was {s}, what day will tomorrow be?|It will be {o}.",
            "Two days after {s} comes {o}.")  # fmt: skip
NEXT_DAY = ("The day after {s} is {o}.", "If today is {s}, then tomorrow will be {o}.", "Which day comes after {s}?|{o} comes next.", "After {s} comes {o}.",
            "Today is {s}. What day is tomorrow?|Tomorrow is {o}.", "{s} is followed by {o}.", "When {s} ends, {o} begins.")  # fmt: skip
PREVIOUS_DAY = ("The day before {s} is {o}.", "If today is {s}, then yesterday was {o}.", "Which day comes before {s}?|{o} does.", "Before {s} comes {o}.",
                "Today is {s}. What day was yesterday?|Yesterday was {o}.", "The day that ends when {s} begins is {o}.")  # fmt: skip
NEXT_MONTH = ("The month after {s} is {o}.", "Which month comes after {s}?|{o} comes next.", "After {s} comes {o}.", "{s} is followed by {o}.",
              "If it is {s} now, next month will be {o}.", "When {s} ends, {o} begins.")  # fmt: skip
PREVIOUS_MONTH = (
    "The month before {s} is {o}.",
    "Which month comes before {s}?|{o} does.",
    "If it is {s} now, last month was {o}.",
    "Before {s} comes {o}.",
)
MONTH_NUMBER = ("{s} is the {o} month of the year.", "The {o} month of the year is {s}.", "Which month of the year is {s}?|It is the {o}.",
                "What is the {o} month of the year?|It is {s}.", "In the list of the months, {s} is the {o}.")  # fmt: skip
MONTH_LENGTH = (
    "{s} has {o} days.",
    "How many days does {s} have?|It has {o} days.",
    "The number of days in {s} is {o}.",
    "There are {o} days in {s}.",
)
PLANET_NUMBER = ("{s} is the {o} planet from the sun.", "The {o} planet from the sun is {s}.", "Which planet is the {o} from the sun?|It is {s}.",
                 "Counting from the sun, {s} is planet number {n}.", "Where does {s} stand among the planets?|It is the {o} from the sun.")  # fmt: skip
NEXT_PLANET = ("The planet after {s} is {o}.", "Which planet comes after {s}?|{o} comes next.", "If you fly outward from {s}, the next planet is {o}.",
               "Just beyond {s} lies the path of {o}.")  # fmt: skip
NEXT_NUMBER = ("The number after {s} is {o}.", "Which number comes after {s}?|{o} comes next.", "{s} plus one is {o}.", "Count on from {s}: the next number is {o}.",
               "Which number follows {s}?|{o}.")  # fmt: skip
NEXT_LETTER = ("The letter after {s} is {o}.", "Which letter comes after {s}?|{o} comes next.", "In the alphabet, {s} is followed by {o}.",
               "After the letter {s} comes the letter {o}.")  # fmt: skip
IN_WORDS = ("The number {s} is written {o}.", "{s} in words is {o}.", "How do you write {s} in words?|You write {o}.", "We read {s} as {o}.",
            "The word {o} means the number {s}.")  # fmt: skip
SPELL = ("The word {s} is spelled {o}.", "How do you spell {s}?|{o}.", "{s}: {o}.", "To write {s}, you need the letters {o}.", "Spell the word {s}.|{o}.",
         "If you put the letters {o} together, you get {s}.")  # fmt: skip
LENGTH = ("The word {s} has {o} letters.", "How many letters are in the word {s}?|There are {o}.", "Count the letters of {s} and you get {o}.",
          "The word {s} is made of {o} letters.", "How long is the word {s}?|It has {o} letters.")  # fmt: skip
FIRST_LETTER = ("The first letter of {s} is {o}.", "The word {s} begins with {o}.", "Which letter does the word {s} begin with?|It begins with {o}.",
                "What is the first letter of the word {s}?|{o}.")  # fmt: skip
LAST_LETTER = ("The last letter of {s} is {o}.", "The word {s} ends with {o}.", "Which letter does the word {s} end with?|It ends with {o}.",
               "What is the last letter of the word {s}?|{o}.")  # fmt: skip
COUNT_LETTER = ("The letter {c} appears {o} in {w}.", "In the word {w}, the letter {c} appears {o}.", "How often does the letter {c} appear in {w}?|It appears {o}.",
                "Look for {c} in the word {w}: you find it {o}.", "How many times is {c} in {w}?|The letter {c} is there {o}.")  # fmt: skip
SUM = ("{a} + {b} = {o}", "{A} plus {b2} is {o2}.", "What is {a} + {b}?|{a} + {b} = {o}.", "If you add {b} to {a}, you get {o}.", "The sum of {a} and {b} is {o}.",
       "How much is {a2} plus {b2}?|It is {o2}.", "{A} and {b2} make {o2}.")  # fmt: skip
DIFFERENCE = ("{a} - {b} = {o}", "{A} minus {b2} is {o2}.", "What is {a} - {b}?|{a} - {b} = {o}.", "If you take {b} away from {a}, you keep {o}.",
              "The difference between {a} and {b} is {o}.", "How much is {a2} minus {b2}?|It is {o2}.")  # fmt: skip
PRODUCT = ("{a} * {b} = {o}", "{A} times {b2} is {o2}.", "What is {a} * {b}?|{a} * {b} = {o}.", "The product of {a} and {b} is {o}.",
           "How much is {a2} times {b2}?|It is {o2}.", "{A} groups of {b2} make {o2}.")  # fmt: skip
QUOTIENT = ("{a} / {b} = {o}", "{A} divided by {b2} is {o2}.", "What is {a} / {b}?|{a} / {b} = {o}.", "If you share {a} things among {b} people, each gets {o}.",
            "How much is {a2} divided by {b2}?|It is {o2}.")  # fmt: skip
EQUATION = ("If {s}, then x is {o}.", "Solve {s}.|x = {o}.", "The solution of {s} is x = {o}.", "What is x if {s}?|x is {o}.", "When {s}, the value of x is {o}.",
            "From {s} it follows that x = {o}.")  # fmt: skip
LARGER = (
    "{s} is more than {o}.",
    "Which is more, {o} or {s}?|{S} is more.",
    "{o} is less than {s}.",
    "{s} > {o}",
    "{o} < {s}",
    "Of {s} and {o}, the smaller number is {o}.",
)
BIGGER = ("{A} is bigger than {ao}.", "{AO} is smaller than {a}.", "Which is bigger, {ao} or {a}?|{A} is bigger.", "{P} are bigger than {po}.",
          "Compared with {a}, {ao} is small.", "Which is smaller, {a} or {ao}?|{AO} is smaller.")  # fmt: skip
# The people of Fernhill
PET = ("{s} has {ao} named {n}.", "The name of {s}'s {o} is {n}.", "What kind of pet does {s} have?|{s} has {ao}.", "{n} is {ao} and belongs to {s}.",
       "What is the name of {s}'s {o}?|It is {n}.", "Wherever {s} goes, the {o} goes too, and its name is {n}.")  # fmt: skip
FAVORITE_COLOR = ("The favorite color of {s} is {o}.", "{s} likes {o} best of all colors.", "What is {s}'s favorite color?|It is {o}.",
                  "When {s} may choose a color, it is always {o}.", "{s}'s favorite color is {o}.")  # fmt: skip
FAVORITE_FOOD = ("The favorite food of {s} is {o}.", "{s} loves to eat {o}.", "What does {s} like to eat most?|{s} likes {o} most.", "On birthdays {s} asks for {o}.",
                 "If you invite {s} to dinner, make {o}.")  # fmt: skip
HOBBY = ("In free hours {s} enjoys {o}.", "What does {s} like to do?|{s} likes {o}.", "Nobody in Fernhill likes {o} as much as {s}.",
         "The hobby of {s} is {o}.", "After work is done, {s} goes back to {o}.")  # fmt: skip
PROFESSION = ("{s} is the {o} of Fernhill.", "The {o} of Fernhill is {s}.", "Who is the {o} in Fernhill?|It is {s}.", "What is the job of {s}?|{s} is {ao}.",
              "In Fernhill, the work of the {o} is done by {s}.")  # fmt: skip


def _fields(s: str, o: str, **more: str) -> dict[str, str]:
    """All forms of a subject and an object that a phrasing may ask for: {s} {S} {own} a {a} {A} plural {p} {P}, and likewise for the object."""
    forms = {"s": s, "S": capital(s), "own": possessive(s), "a": article(s), "A": capital(article(s)), "p": plural(s), "P": capital(plural(s))}
    if o:
        forms |= {"o": o, "O": capital(o), "ao": article(o), "AO": capital(article(o)), "po": plural(o)}
    return forms | more


def _pairs(pairs) -> dict[str, dict[str, str]]:
    return {s: _fields(s, o) for s, o in pairs if o}


def _arithmetic(sign: str, triples) -> dict[str, dict[str, str]]:
    facts = {}
    for a, b, o in triples:
        facts[f"{a} {sign} {b}"] = {"a": str(a), "b": str(b), "o": str(o), "a2": number_word(a), "b2": number_word(b), "o2": number_word(o),
                                    "A": capital(number_word(a))}  # fmt: skip
    return facts


def _equations() -> dict[str, dict[str, str]]:
    """One-step and two-step equations with whole solutions from 1 to 10."""
    facts = {}
    for x in range(1, 11):
        for a in range(2, 10):
            facts[f"{a}*x = {a * x}"] = x
        for a in range(2, 6):
            for b in range(1, 6):
                facts[f"{a}*x + {b} = {a * x + b}"] = x
        for b in range(1, 6):
            facts[f"x + {b} = {x + b}"] = x
            facts[f"x - {b} = {x - b}"] = x
    return {s: _fields(s, str(x)) for s, x in facts.items() if "= -" not in s}


def _bigger_animals() -> dict[str, dict[str, str]]:
    """Pairs of animals whose sizes are so far apart that nobody would argue."""
    size = {row[0]: int(row[7]) for row in rows(ANIMALS)}
    return {f"{s}>{o}": _fields(s, o) for s in size for o in size if size[s] >= size[o] + 3}


def _letter_counts(words: list[str]) -> dict[str, dict[str, str]]:
    times = ("never", "once", "twice", "three times", "four times")
    return {f"{c} in {w}": {"c": c, "w": w, "o": times[w.count(c)]} for w in words for c in sorted(set(w))}


def _ring(names: tuple[str, ...], by: int) -> list[tuple[str, str]]:
    """Each name and the one that stands so many places after it, round and round."""
    return [(name, names[(i + by) % len(names)]) for i, name in enumerate(names)]


@cache
def relations() -> dict[str, Relation]:
    """Everything that is known, by the name of the relation."""
    countries, elements, animals, people = rows(COUNTRIES), rows(ELEMENTS), rows(ANIMALS), rows(PEOPLE)
    opposites = rows(OPPOSITES)
    words = WORDS_TO_SPELL.split()
    adults = [row for row in people if row[1] in ("man", "woman")]
    known = {
        "capital": (CAPITAL, _pairs((r[0], r[1]) for r in countries)),
        "continent": (CONTINENT, _pairs((r[0], r[2]) for r in countries)),
        "language": (LANGUAGE, _pairs((r[0], r[3]) for r in countries)),
        "symbol": (SYMBOL, _pairs((r[0], r[1]) for r in elements)),
        "atomic number": (ATOMIC_NUMBER, _pairs((r[0], r[3]) for r in elements)),
        "state": (STATE, _pairs((r[0], r[2]) for r in elements)),
        "opposite": (OPPOSITE, _pairs(opposites + [row[::-1] for row in opposites])),
        "eats": (EATS, _pairs((r[0], r[2]) for r in animals)),
        "lives": (LIVES, _pairs((r[0], r[3]) for r in animals)),
        "young": (YOUNG, _pairs((r[0], r[4]) for r in animals)),
        "sound": (SOUND, {r[0]: _fields(r[0], r[5], os=SOUNDS_S.get(r[5], r[5] + "s")) for r in animals if r[5]}),
        "legs": (LEGS, _pairs((r[0], r[6]) for r in animals)),
        "class": (CLASS, _pairs((r[0], r[1]) for r in animals)),
        "bigger": (BIGGER, _bigger_animals()),
        "color": (COLOR, _pairs(rows(COLORS_OF_THINGS))),
        "past": (PAST, _pairs(rows(PAST_TENSE))),
        "plural": (PLURAL, _pairs((noun, plural(noun)) for noun in NOUNS_TO_PLURALIZE)),
        "kind": (KIND, _pairs(rows(KINDS))),
        "material": (MATERIAL, {s: _fields(s, o, b="are" if s == "raisins" else "is") for s, o in rows(MATERIALS)}),
        "does": (DOES, _pairs((r[0], r[1]) for r in rows(JOBS))),
        "works": (WORKS, _pairs((r[0], r[2]) for r in rows(JOBS))),
        "amount": (AMOUNT, {f"{u} in {h}": {"u": u, "h": h, "H": capital(h), "o": o} for u, h, o in rows(AMOUNTS)}),
        "sides": (SIDE, _pairs(rows(SIDES))),
        "part for": (PART_FOR, _pairs(rows(PARTS_FOR))),
        "tool for": (TOOL_FOR, _pairs(rows(TOOLS_FOR))),
        "place for": (PLACE_FOR, _pairs(rows(PLACES_FOR))),
        "tomorrow": (TOMORROW, _pairs(_ring(DAYS, 2))),
        "next day": (NEXT_DAY, _pairs(_ring(DAYS, 1))),
        "previous day": (PREVIOUS_DAY, _pairs(_ring(DAYS, -1))),
        "next month": (NEXT_MONTH, _pairs(_ring(MONTHS, 1))),
        "previous month": (PREVIOUS_MONTH, _pairs(_ring(MONTHS, -1))),
        "month number": (MONTH_NUMBER, _pairs(zip(MONTHS, ORDINALS, strict=True))),
        "month length": (MONTH_LENGTH, _pairs((m, str(n)) for m, n in zip(MONTHS, MONTH_DAYS, strict=True) if n != 28)),
        "planet number": (PLANET_NUMBER, {p: _fields(p, ORDINALS[i], n=SMALL_NUMBERS[i + 1]) for i, p in enumerate(PLANETS)}),
        "next planet": (NEXT_PLANET, _pairs(_ring(PLANETS, 1)[:-1])),
        "next number": (NEXT_NUMBER, _pairs((str(n), str(n + 1)) for n in range(1, 100))),
        "next letter": (NEXT_LETTER, _pairs(zip(ALPHABET, ALPHABET[1:], strict=False))),
        "in words": (IN_WORDS, _pairs((str(n), number_word(n)) for n in range(101))),
        "spell": (SPELL, _pairs((w, "-".join(w)) for w in words)),
        "length": (LENGTH, _pairs((w, number_word(len(w))) for w in words)),
        "first letter": (FIRST_LETTER, _pairs((w, w[0]) for w in words)),
        "last letter": (LAST_LETTER, _pairs((w, w[-1]) for w in words)),
        "count letter": (COUNT_LETTER, _letter_counts(words)),
        "sum": (SUM, _arithmetic("+", ((a, b, a + b) for a in range(1, 21) for b in range(1, 21)))),
        "difference": (DIFFERENCE, _arithmetic("-", ((a, b, a - b) for a in range(2, 21) for b in range(1, a)))),
        "product": (PRODUCT, _arithmetic("*", ((a, b, a * b) for a in range(2, 11) for b in range(1, 11)))),
        "quotient": (QUOTIENT, _arithmetic("/", ((a * b, b, a) for a in range(1, 11) for b in range(2, 11)))),
        "equation": (EQUATION, _equations()),
        "larger": (LARGER, {f"{s}>{o}": _fields(str(s), str(o)) for s in range(2, 51) for o in range(1, s)}),
        "pet": (PET, {r[0]: _fields(r[0], r[3], n=r[4]) for r in people}),
        "favorite color": (FAVORITE_COLOR, _pairs((r[0], r[5]) for r in people)),
        "favorite food": (FAVORITE_FOOD, _pairs((r[0], r[6]) for r in people)),
        "hobby": (HOBBY, _pairs((r[0], r[8]) for r in people)),
        "profession": (PROFESSION, _pairs((r[0], r[2]) for r in adults)),
    }  # fmt: skip
    return {name: Relation(name, phrasings, facts) for name, (phrasings, facts) in known.items()}


# --- tellings --------------------------------------------------------------------------------------------------------


def tell(relation: Relation, subject: str, phrasing: int) -> Telling:
    """One fact in one phrasing."""
    template, fields = relation.phrasings[phrasing], relation.facts[subject]
    question, bar, statement = template.rpartition("|")
    answer = fields[[name for _, name, _, _ in Formatter().parse(statement) if name][-1]]
    text = statement.format_map(fields)
    prompt = question.format_map(fields) if bar else text[: text.rindex(answer)].rstrip()
    return Telling(relation.name, subject, phrasing, prompt, answer, text, bool(bar), is_held_out(relation.name, subject, phrasing))


@cache
def tellings(name: str) -> tuple[Telling, ...]:
    """All tellings of a relation, the held-out ones among them."""
    relation = relations()[name]
    told = [tell(relation, subject, i) for subject in relation.facts for i in range(len(relation.phrasings))]
    answers: dict[str, set[str]] = {}
    for t in told:
        answers.setdefault(t.prompt, set()).add(t.answer.lower())
    return tuple(t._replace(held_out=t.held_out and len(answers[t.prompt]) == 1) for t in told)


def held_out_tellings() -> list[Telling]:
    return [telling for name in relations() for telling in tellings(name) if telling.held_out]
