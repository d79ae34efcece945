"""The stories, dialogues, instructions and letters of the tiny world, as templates.

A template is a text of lines. Each line is one step and is told in one of its variants, which ' | ' parts; a line that begins with '?'
is left out half of the time; an empty line begins a new paragraph. {Fields} are filled from a scene (see tinyworld.Scene): {H} is the hero,
{F} a friend, {M} a grown-up, with {he} {his} {him} for the hero, {fhe} {fhis} {fhim} for the friend, {mhe} {mhis} {mhim} for the grown-up;
{pet} and {Pet} are the kind and the name of the hero's pet. One scene holds for a whole text, so what is true on the first line stays true.
"""

STORIES = (
    """Where Is {Pet}? | {H} and the Missing {Petkind} | The Day {Pet} Hid

One {weather} {day} morning, {H} could not find {Pet}, {his} {pet}. | {H} had {a_pet} named {Pet}, and one {day} morning {Pet} was gone. | "{Pet}! Where are you?" called {H}. It was {day}, and the little {pet} was not in its bed.
? {H} was a {trait} {kind}, and {he} did not give up easily. | Everyone in Fernhill knew that {H} was {trait}.
First {he} looked {place}. No {pet} was there. | {He} went to look {place} first, but {Pet} was not there. | {He} searched {place}, and found only {a_junk}.
Then {he} looked {place2}, but nothing was there except {a_junk2}. | Next {he} looked {place2}, but all {he} found was {a_junk2}.

{F} came by and asked, "What is wrong?" | Just then {F} came down the road. "Why do you look so sad?" asked {F}. | {F}, who lived next door, heard {him} calling.
"{Pet} is gone," said {H}. "I have looked {place} and {place2}." | "I cannot find {Pet}," said {H}. "{Pet} is not {place}, and not {place2}."
"Let us think," said {F}. "What does {Pet} like best?" | {F} thought for a moment. "Where would you go if you were {a_pet}?" {fhe} asked.
? "{Pet} likes to sleep where it is warm," said {H}. | "{Pet} likes quiet places," said {H}.

So they walked together and looked {place3}. | Together they went to look {place3}. | On the tips of their toes they went to look {place3}.
And there was {Pet}, fast asleep! | There sat {Pet}, looking very pleased. | Two bright eyes looked out at them. It was {Pet}!
{H} laughed and held {Pet} close. "You were {place3} all the time!" {he} said. | "So this is where you were," said {H}, and {he} was so happy that {he} danced.
{H} thanked {F}, and they shared {food} at home. | "Thank you for helping me," {H} said to {F}. | From then on, whenever {Pet} was gone, {H} looked {place3} first.""",
    """The {Color} {Thing} | A {Thing} for {F} | {H} Gives Something Away

{H} had {a_color} {thing}. It was {his} favorite because {color} was {his} favorite color. | Of all the things {H} owned, {he} loved {his} {color} {thing} best.
{He} took it everywhere, even to school. | Every day {he} carried it with {him}. | At night {he} put it beside {his} bed.
One {day}, {F} looked sad. "I lost my own {thing}," said {F}. "I looked everywhere." | On {day}, {H} met {F} near the {spot}. {F} was crying, because {fhis} {thing} had fallen into the river.

{H} looked at {his} {color} {thing}. {He} thought for a long time. | {H} did not know what to say. {He} held the {color} {thing} tight and thought.
Then {he} held it out. "You can have mine," {he} said. | At last {he} smiled. "Please take this one," said {H}.
"But it is your favorite!" said {F}. | {F} could not believe it. "Are you sure?" {fhe} asked.
"I am sure," said {H}. "A friend is better than a {thing}." | "Yes," said {H}. "It is more fun to give than to keep."

{F} hugged {him} and ran home with the {color} {thing}. | {F} smiled for the first time that day.
The next week, {F} came back with a box. | On {H}'s birthday, a box stood at {his} door.
Inside was a new {color} {thing}, made by {M}, the {mjob}, and with it came a card. | In the box {H} found {a_color} {thing}, just like the old one, and a card from {F}.
The card said: "For {H}, the best friend in Fernhill." | Now they both had {a_color} {thing}, and they were both happy.""",
    """The Big Storm | When the Wind Came | A Night Without Lamps

It was a {day} in {month}. The sky over Fernhill turned dark. | One evening in {month}, black clouds came over the hills.
The wind began to blow, and the rain fell harder and harder. | First came the wind, then the rain, and then the thunder.
{H} stood at the window with {Pet}, {his} {pet}. | {H} and {his} {pet} {Pet} sat close together by the stove.
? "Do not be afraid," {H} told {Pet}, although {he} was a little afraid {himself}. | {Pet} hid under the blanket.

Suddenly all the lamps in the village went out. | Then there was a loud crack. A tree had fallen across the road, and all the lamps went out.
{H} remembered {M}, the {mjob}, who lived alone near the {spot}. | "Somebody should look after {M}," said {H}. {M} was the {mjob}, and {mhis} house stood near the {spot}.
So {H} put on {his} {color} coat, took a lantern, and went out into the rain. | {H} took a lantern and a rope and walked out into the storm in {his} {color} coat.
"Who is there?" called {M}. "It is {H}," a small voice answered. "I came to see if you are well." | {M} opened the door. "{H}! You came out in this weather?" {mhe} said.
The water was already at the door, so they carried {number} sacks of sand and put them in front of it. | A window was broken, so they closed it with a board and {number} nails.
Then they sat by the fire and ate {food}. | Then {M} made hot tea, and they told each other stories until the thunder was far away.

In the morning the sun came out, and everything was wet and shining. | When morning came, the storm was over.
"You are a {trait} {kind}," said {M}. "I will not forget it." | "Thank you, {H}," said {M}. "Good neighbors are better than good weather."
And that is how {H} and {M} became friends. | {H} walked home through the puddles and slept until noon.""",
    """The Race to the {Spot} | {H} and {F} Run a Race | Who Is the Fastest?

"I am the fastest runner in Fernhill," said {F}. | {F} could run very fast and liked to say so.
{H} was not as fast, but {he} never gave up. | {H} was slower, but {he} ran every morning before school.
"Let us race to the {spot} on {day}," said {H}. | "On {day} we will see," said {H}. "We will run to the {spot}."

On {day} all the children came to watch. {M}, the {mjob}, counted: "Three, two, one, go!" | When {day} came, {M} the {mjob} held up {a_color} flag. "One, two, three, go!" {mhe} called.
{F} ran ahead at once. Soon {fhe} was far in front. | {F} was off like the wind, and {H} ran behind.
Halfway there, {F} sat down under a tree to rest. "I have plenty of time," {fhe} said. | Then {F} saw a bush full of berries. "I can stop for a moment," {fhe} thought.
{H} did not stop. Step by step {he} came closer. | But {H} kept going, one foot and then the other.
One minute went by, and then another, and {F} forgot about the race. | It was so nice there that {F} forgot all about the race.
When {F} looked up, {H} was almost at the {spot}! | Suddenly {F} heard the children cheer. {H} had reached the {spot}!

{F} jumped up and ran, but it was too late. {H} had won. | {H} won the race by {number} steps.
"You are still faster than I am," said {H}. "But I did not stop." | "Fast is good," said {M}, "but steady is better."
{F} laughed and shook {his} hand. | {F} was a good loser. "Next time I will not stop," {fhe} said, and they both laughed.""",
    """{H} Plants a Garden | {Number} Little Seeds | The {Color} Flowers

In spring, {M} gave {H} {number} seeds. | {M}, the {mjob}, gave {H} a bag with {number} seeds.
"What will they be?" asked {H}. "Wait and see," said {M}. | "If you take care of them, you will be surprised," said {M}.
{H} dug {number} holes behind the house and put one seed in each hole. | {H} took a spade, dug {number} small holes, and dropped one seed into each.
Then {he} covered them with soil and gave them water. | {He} covered the seeds with warm soil and watered them.

Every morning {he} went out to look. On the first day there was nothing. | The next day {he} looked, but {he} saw only soil.
On the second day it was the same. | A day later there was still nothing to see.
? {F} said, "Maybe the seeds are asleep." | ? "Are you sure you did it right?" asked {F}.
"Seeds need water, warm soil, and time," said {M}. "Be patient." | {M} smiled. "You cannot hurry a seed," {mhe} said.
After a week, {H} saw a tiny green leaf. Then another, and another! | And then, one {weather} morning, there were {number} green leaves in a row.
The plants grew taller and taller. | Week by week the plants grew, first as high as a hand, then as high as a knee.

In summer the flowers opened. They were {color}, all {number} of them. | By summer there were {number} {color} flowers behind the house.
"{Color} is my favorite color!" cried {H}. | "They are {color}!" said {H}. {Color} was {his} favorite color.
{He} picked one flower and gave it to {M}. | {He} gave the first flower to {M}, and kept some seeds for next spring.""",
    """The Little {Animal} by the {Spot} | {H} Helps a Little {Animal} | A Cry for Help

{H} and {F} were walking near the {spot} when they heard a small cry. | One {weather} {day}, {H} and {F} heard a strange sound near the {spot}.
A little {animal} had one foot caught in a net. | A small {animal} had one foot caught between two stones. | There was a young {animal}, and its foot was caught under a branch.
"Poor thing," said {H}. "We must help it." | "It is hurt," said {H}. "We must be very gentle."
The {animal} was afraid and tried to get away. | The {animal} looked at them with big, frightened eyes.
? "Stay calm," whispered {F}. "We are friends." | ? {F} wanted to run for help, but {H} said there was no time.

{H} spoke softly and moved slowly, until the {animal} was quiet. | {H}, who was {trait}, sat down and waited until the {animal} was calm.
Then {he} set it free with {his} own two hands. | With slow and careful hands, {he} set it free. | Then, very carefully, {he} freed the little foot.
They took it to {M}, the {mjob}, who washed the foot and gave the {animal} some water. | They carried it to {M}, the {mjob}. "It needs rest and good food," said {M}.
"What does {a_animal} eat?" asked {F}. "{A_animal} eats {eats}," said {M}. | "Bring it some {eats}," said {M}. "That is what it likes."
They found some {eats}, and the {animal} ate and ate. | {H} went to look for {eats}, and soon the {animal} was eating.

After {number} days the foot was well, and they took the {animal} back to the {spot}. | It stayed for {number} days. Then it was strong enough to go home.
It looked back once, and then it was gone. | The {animal} went a few steps, turned its head as if to say thank you, and was gone.
"Will it remember us?" asked {F}. "I think so," said {H}. | {H} missed it a little, but {he} was glad that it was free.""",
    """Market Day | {H} Goes to the Market | What {H} Bought

On {day}, {H} went to the market with {coins} coins in {his} pocket. | It was market day in Fernhill, and {H} had {coins} coins to spend.
"Please bring {goods}," said {his} mother. | {His} father had asked {him} to buy {goods}.
The market was full of people. {M}, the {mjob}, waved to {him}. | There was so much to see! {M}, the {mjob}, was there too, and so was {F}.
The {goods} cost {price} coins. {H} paid, and {left} coins were left. | {H} found {goods} for {price} coins. {coins} minus {price} is {left}, so {he} still had {left} coins.

On the way back, {he} saw {a_color} {thing}. It was very pretty. | Then {H} saw it: {a_color} {thing}, the nicest in the market. {Color} was {his} favorite color.
"How much is it?" {he} asked. "{price2} coins," said the seller. | "That will be {price2} coins," said the woman behind the table.
{coinresult}

{H} went home with the {goods} in {his} basket. | With the {goods} in {his} basket, {he} walked home.
? "What did you learn today?" asked {M} on the way. "To count my coins," said {H}. | ? That evening they all ate {food} together.""",
    """The Broken Window | {H} Tells the Truth | An Honest {Kind}

{H} and {F} were playing with a ball near the house of {M}, the {mjob}. | One {day}, {H} and {F} were kicking {a_color} ball near the house of {M}, the {mjob}.
{H} kicked too hard. Crash! The ball went right through the window. | {H} kicked with all {his} strength. The ball flew over the fence, and then there was the sound of breaking glass.
"Run!" said {F}. "Nobody saw us." | {F} turned pale. "We should go home before anyone comes," {fhe} said.
But {H} did not run. {His} heart beat fast. | {H} wanted to run too, but {his} feet did not move.
"It was an accident," {he} said, "but I broke it. I have to say so." | "No," said {H}. "If we run, {M} will never know what happened."

{He} knocked on the door. {M} opened it. | {H} walked to the door and knocked.
"I am sorry," said {H}. "My ball broke your window." | "I broke your window with my ball," said {H}. "I am very sorry, and I want to make it good."
{M} looked at {him} for a long time. Then {mhe} smiled. | For a moment {M} said nothing. Then {mhe} put a hand on {his} shoulder.
"A window is only glass," said {M}. "It is harder to find someone honest." | "Thank you for telling me the truth," said {M}. "That took courage."
For {number} days {H} helped {M} after school, until the window was paid for. | {H} and {F} helped to sweep up the glass, and on {day2} they helped to put in a new window.

{F} was ashamed. "Next time I will stay too," {fhe} said. | "You were braver than I was," said {F}.
And {M} gave them back the ball. | Since that day, {M} has always had time for the two children.""",
    """The New {Fkind} at School | A Friend for {F} | {F} Comes to Fernhill School

{F} was new in the class and did not talk much. | At school, {F} always sat alone under the big tree.
"Why does {F} never play with us?" asked {H}. | {H} saw it and thought about it.
"Maybe nobody asked," said {M}, the {mjob}. | "Some people need time," {M} told {him}.
So on {schoolday}, {H} sat down next to {F}. | The next day, {H} took {his} lunch and sat down under the tree too.

"I have {food}," said {H}. "Would you like some?" | "Would you like to share my lunch?" asked {H}. "Today I have {food}."
{F} looked up. "I like {ffood} better," {fhe} said quietly, "but thank you." | {F} nodded, and they ate without saying a word.
"What do you like to do?" asked {H}. | After a while, {H} asked, "What do you do after school?"
"I like {fhobby}," said {F}. "Really?" said {H}. "Can you show me?" | {F} smiled a little. "{Fhobby}," {fhe} said. "It is my favorite thing."
"And I like {hobby}," said {H}. "We could do both." | "I like {hobby}," said {H}. "Tomorrow you show me yours, and I show you mine."

From that day on, they were friends. | After that, {F} did not sit alone anymore.
One day it was {hobby}, and the next day it was {fhobby}. | On {day2}, {F} even laughed out loud, and the whole class turned around and smiled.
? {M} saw them and was glad. | ? "You see," said {M}, "it was not so hard." """,
    """The Bridge | How {H} and {F} Crossed the River | Two Ideas

{H} and {F} wanted to visit {M}, the {mjob}, but the bridge was gone. | After the rain, {H} and {F} could not get to {M}, the {mjob}, because the little bridge was broken.
The river was wide and cold. | "How can we get across?" asked {F}. The water was deep.
"We could swim," said {F}. "The water is too cold," said {H}. | {F} wanted to jump, but the river was too wide.
"We could make a bridge out of wood," said {H}. | "Let us build something," said {H}.

Behind a barn lay {number} old boards, and they carried them to the river. | They looked for wood and found {number} long branches.
The first try did not work. Splash! {F} was wet up to the knees. | At first everything fell into the water, and they had to start again.
"We should think before we try again," said {H}. | "Try once more," said {H}, who was {trait}.
{F} had an idea. "The heavy ones must go first, and the light ones on top." | "If we tie them together, they will hold," said {F}.
This time it was strong, and they walked across, one after the other. | So they tried it that way, and it worked. {H} went first, and {F} came after {him}.

On the other side, {M} was waiting. "How did you get here?" {mhe} asked. | {M} was surprised to see them. "Did you fly?" {mhe} asked.
"With two ideas," said {H}. "One was mine, and one was {F}'s." | "We built a bridge," they said, "and it only fell down once."
{M} gave them {food}, and they dried their shoes by the fire. | {M} laughed and gave them dry socks and warm {food}.""",
    """Under the Stars | {H} Cannot Sleep | The Night Walk

One night {H} could not sleep. {He} looked out of the window. | It was a clear night in {month}, and {H} was still awake.
The moon stood over the {spot}, round and white. | Thousands of stars were shining over Fernhill.
{He} woke {his} {pet} {Pet}, and they went outside together. | {He} put on {his} {color} coat and went out. {Pet}, the {pet}, came along.
In the garden stood {M}, the {mjob}, with a telescope. | {M}, the {mjob}, was sitting on a bench with a telescope. "You cannot sleep either?" {mhe} asked.

{H} looked through the telescope. "What is that point of light?" {he} asked. "That is {planet}," said {M}. "It is a planet, not a star." | "Look through here," said {M}. "That one is {planet}."
"Is it far away?" asked {H}. "Very far," said {M}. "{planetfact}" | "Tell me about it," said {H}. And {M} said, "{planetfact}"
"And what is the sun?" "The sun is a star," said {M}. "It only looks bigger because it is near." | "Why do the stars shine only at night?" asked {H}. "They shine all day," said {M}, "but the sun is so bright that we cannot see them."
? "I want to go there one day," said {H}. | ? {H} counted the stars up to a hundred, and then {he} lost count.

A cool wind came up, and {H} began to yawn. | Slowly {his} eyes grew heavy.
{M} brought {him} to {his} door. "Good night, {H}," {mhe} said. | "Time for bed," said {M}. "The stars will be there tomorrow."
{H} dreamed of {planet} all night. | That night {H} flew to {planet} in a dream, and {Pet} flew with {him}.""",
    """The Fox and the {Fabled} | A Fable | The Clever {Fabled}

A hungry fox met {a_fabled} near the {spot}. | Once upon a time, a fox lived near the {spot}. One day it met {a_fabled}.
"You are just in time for dinner," said the fox. | "I have not eaten for {number} days," said the fox. "I think I will eat you."
The {fabled} was afraid, but it did not show it. | The {fabled} knew that it could not run fast enough. So it had to think.
"I am so thin," it said. "Let me eat some {fabledeats} first. On {day} I will come back, round and fat." | "What a pity," it said, "that you will never hear my song."

"Do you think I am a fool?" asked the fox. | "I do not trust you," said the fox. "I am no fool."
"No," said the {fabled}. "Everyone says that you are the wisest animal of all." | "A fool? You?" said the {fabled}. "All the animals talk about how clever you are."
The fox was proud to hear this. It closed its eyes to enjoy the words. | When the fox heard this, it smiled, closed its eyes, and lifted its nose into the air.
"Go on," it said. "What else do they say?" | "And what do they say about my tail?" it asked.
But while the eyes of the fox were closed, the {fabled} ran away. | But nobody answered. When the fox opened its eyes, it was alone.

{moral}""",
    """The Fox at the {Spot} | The Other Fox | The {Fabled} Who Was Not Eaten

One {weather} {day}, {a_fabled} came to the {spot} to drink. | {A_fabled} was looking for {fabledeats} when a fox jumped out of the bushes.
"Now I have you," said the fox. | "Good morning, my breakfast," said the fox.
"Wait," said the {fabled}. "I belong to another fox, and it is stronger than you." | "I would not do that," said the {fabled}. "The other fox will be angry."
"Another fox? Where?" | "What other fox?" asked the fox. "Show me!"
The {fabled} led it to the water. "Look down there," it said. | So they walked to the water. "There it lives," said the {fabled}.

The fox looked down and saw a fox that looked just as hungry. | And really, a fox looked up out of the water.
It showed its teeth, and the other fox showed its teeth too. | It growled, and the other one seemed to growl as well.
"I will teach you!" cried the fox, and jumped. Splash! | Then it jumped at the other fox with all its strength. Splash!
It was only its own picture in the water. | But there was no other fox. There was only cold water.
When the wet fox came out, the {fabled} was far away. | And when it had climbed out, cold and wet, the {fabled} was gone.

{moral}""",
    """The Biggest Cake in Fernhill | Baking Day | {H} Bakes With {M}

{F}'s birthday was on {day}. "I want to bake a cake," said {H}. | {H} wanted to bake a cake for {F}, because it was {fhis} birthday.
{He} asked {M}, the {mjob}, for help. | {M}, the {mjob}, said, "I will help you, but you do the work."
They took {number} eggs, flour, sugar, milk, and butter. | First they put flour and sugar into a bowl. Then came {number} eggs, some milk, and some butter.
{H} mixed everything with a wooden spoon. | {H} stirred until {his} arm was tired.
? {Pet}, {his} {pet}, got flour on its nose. | ? There was flour on the table, on the floor, and on {Pet}, {his} {pet}.

They put the cake into the oven and waited. | "Now it must bake for an hour," said {M}. "An hour has sixty minutes."
{H} looked through the little window every minute. "Is it ready now?" "Not yet," said {M}. | To wait is hard. {H} asked {number} times if the cake was ready.
At last it was brown and smelled wonderful. | Then a sweet smell filled the kitchen, and the cake was done.
They painted it with {fcolor} sugar, because {fcolor} was {F}'s favorite color. | {H} wrote {F}'s name on it with {fcolor} sugar.

On {day}, {H} carried the cake to {F}. | When {F} opened the door and saw the cake, {fhe} jumped for joy.
"Did you make this yourself?" asked {F}. "{M} helped me," said {H}. | "It is the best cake of my life," said {F}.
They cut it into {share} pieces for {people} people, so everyone got {each}. | There were {people} people and {share} pieces, so each of them got {each} pieces.""",
    """The Treasure Hunt | {M}'s Riddles | Three Clues

{M}, the {mjob}, had hidden a treasure. "Who is clever enough to find it?" {mhe} asked. | On {day}, {M}, the {mjob}, hid a treasure. "Are you clever enough to find it?" {mhe} asked the children.
{H} and {F} wanted to try. | "We are!" cried {H} and {F}.
The first riddle said: "{riddle}" | {M} gave them a piece of paper. On it stood: "{riddle}"
"I know it!" said {H}. "It is {riddle_answer}!" | {F} scratched {fhis} head. But {H} knew the answer: "{Riddle_answer}!"

"Right," said {M}. "Now look {place}." And there they found a second paper. | Next to {riddle_answer}, which {M} had painted on a wall, they found the second clue.
It said: "{riddle2}" | "Listen," said {F}, and read: "{riddle2}"
This time {F} was faster. "{Riddle_answer2}!" {fhe} said. | They thought and thought. "{Riddle_answer2}!" they said at the same time.
The last clue was short: "Look {place2}." | With it came a third paper. It said only: "Now look {place2}."
They ran as fast as they could. | They looked at each other and ran.

There stood a box, and in the box were {double} apples and a big {color} flower. | {Place2} they found a box with {double} cookies in it.
"A treasure that is shared is twice as big," said {M}. | "{Number} for you and {number} for me," said {H}, and {F} agreed.""",
    """The Picnic | A {Weather} {Day} | {H} and {F} at the {Spot}

"Let us have a picnic," said {H} on {day}. | On {day} the children of Fernhill went to the {spot} for a picnic.
{H} brought {food}, and {F} brought {ffood}. | {H} had {food} in {his} basket, and in the basket of {F} they found {ffood}.
They put {a_color} blanket on the grass near the {spot}. | {H} spread out {a_color} blanket, and they sat down on it.
{Pet}, the {pet} of {H}, came along, and so did {Fpet}, the {fpet} of {F}. | {Fpet}, the {fpet}, played in the grass, and {Pet}, the {pet}, watched.

They ate and talked and looked at the clouds. | "That cloud looks like {a_animal}," said {F}. "And that one looks like a {thing}," said {H}.
Then a drop fell on {H}'s nose. | Suddenly the sky grew dark.
"Is that rain?" asked {F}. And then it rained. | Plop, plop, plop. It began to rain.
They took everything and ran to a big tree. | They grabbed the blanket and held it over their heads.
{F} was sad. "Our picnic is over," {fhe} said. | "What a pity," said {F}. "And I was still hungry."

"It is not over yet," said {H}. "We can eat here too." | But {H} began to laugh, and then {F} had to laugh too.
When the rain stopped, there was a rainbow over the {spot}. | After the rain came the sun, and a rainbow stood over Fernhill.
"Red, orange, yellow, green, blue, indigo, violet," they counted. "Seven colors!" | "Nobody has ever had a picnic under such a beautiful roof," said {H}.""",
    """Hide and Seek | {H} Counts to {Count} | The Best Hiding Place

{H}, {F}, and {G} were playing hide and seek. | "Who wants to play hide and seek?" asked {H}. {F} and {G} did.
{H} closed {his} eyes and counted: "{counting}!" | It was {H}'s turn to count. "{counting}," {he} counted slowly.
{F} hid {place}. {G} hid {place2}. | Meanwhile {G} ran away and hid {place2}, and {F} hid {place}.
"I am coming!" called {H}. | "Ready or not, here I come!" called {H}.

{He} looked {place3}. Nobody was there. | First {H} looked {place3}, but it was empty.
Then {he} heard a laugh. It came from {F}. | Then somebody sneezed.
"I see you!" said {H}. {F} was {place}. | {H} looked {place} and found {F}.
"Now we must find {G}," said {H}. "Where can {ghe} be?" | But where was {G}? They looked and looked.
{Pet}, the {pet}, went straight to the right place. | "Ask {Pet}," said {F}. And {Pet}, the {pet}, showed them the way.

"There you are!" they called. {G} had been {place2} all the time. | {G} was {place2}, and had almost fallen asleep there.
"That was the best hiding place," said {H}. "You win, {G}." | So {G} won the game, and next time it was {F}'s turn to count.""",
    """The Lazy Helper | {M} Needs a Hand | {Number} Baskets

{M}, the {mjob}, had a lot of work and asked {H} and {F} for help. | "Who can help me on {day}?" asked {M}, the {mjob}. {H} and {F} raised their hands.
There were {number} baskets to carry to the {spot}. | {M} had {number} baskets, and all of them had to be brought to the {spot}.
{H} carried one basket after the other. | {H} began at once and did not talk much.
{F} sat down in the shade. "I will help later," {fhe} said. | {F} looked for the lightest basket, and it took {fhim} a long time.
? The sun climbed higher, and it grew hot. | ? {Pet}, the {pet} of {H}, watched them from the shade.

At noon, {H} was tired, but the work was done. | When the bell rang twelve, all the baskets stood at the {spot}.
{M} gave them {food} and {double} coins. | "Well done," said {M}, and put {double} coins on the table.
"How shall we share the coins?" asked {M}. | "How many coins for each of you?" asked {M}.
{F} turned red. "{H} did most of the work," {fhe} said. "I should not get half." | {F} looked at {fhis} feet. "{H} should get them all," {fhe} said.
"Half of {double} is {number}," said {H}. "Take your half, and tomorrow you carry my baskets." | "We share," said {H}. "Half of {double} is {number}. But next time we share the work too."

{F} did not forget it. The next day {fhe} came first and left last. | On {day2}, {F} carried twice as much as anyone.
"Now you are a real helper," said {M}. | And it felt good, {F} thought, much better than the shade.""",
    """The Kite | {H} and the Wind | The {Color} Kite

{H} had made {a_color} kite. {Color} was {his} favorite color, and the kite was as tall as {he} was. | Out of paper and thin wood, {H} had built {a_color} kite.
On {day} the wind was strong, so {he} took it up the hill. | "Today the wind is right," said {F} on {day}, and they climbed the hill.
The kite went up and up, until it was as small as a bird. | Up it went, higher than the trees, higher than the church.
Then the string broke! | But all at once the string snapped.
The kite flew away over the {spot}. | They could only watch as it sailed away over Fernhill.

"After it!" cried {F}, and they ran. | {H} was close to tears. "Come," said {F}, "it must land somewhere."
They asked {M}, the {mjob}. "{A_color} kite? It went toward the {spot2}," {mhe} said. | On the road they met {M}, the {mjob}. "I saw something {color} fly to the {spot2}," {mhe} told them.
At the {spot2} they looked up, and they looked down. | So they ran to the {spot2} and searched.
And there it hung, high up in a tree. | {H} saw something {color} between the branches.
{F} was good at climbing and brought it down. | {M} came with a ladder and got it down for them.

There was a small hole in it, but nothing worse. | One corner was torn, but {F} knew how to mend it.
"Next time I will take a stronger string," said {H}. | With some paper and some glue it was soon as good as new.""",
    """{H} Learns Something New | {H} Asks {F} for a Lesson | Practice

{H} was good at {hobby}, but {he} wanted to learn {fhobby}. | "Can you teach me {fhobby}?" {H} asked {F}.
{F} did it every day and made it look easy. | {F} loved {fhobby} more than anything.
"I will show you," said {F}, "but you must practice." | "Of course," said {F}. "It is not hard, but it takes time."
The first try was terrible. | At first, nothing went right.
"I will never learn this," said {H}. | {H} was ready to give up.

"When I began, I was no better," said {F}. | {F} laughed kindly. "You should have seen my first try," {fhe} said.
So {H} practiced on Monday, Tuesday, and Wednesday. | {H} tried again the next day, and the next, and the next.
On Thursday it was a little better, and on Friday it was good. | After a week, {he} could do it slowly, and after a month {he} could do it well.
"You see?" said {F}. "Step by step." | {F} clapped {fhis} hands. "Now you can teach me {hobby}," {fhe} said.

And then {H} showed {F} what {he} knew about {hobby}. | "It is your turn to be the student," said {H}, and they began with {hobby}.
Now both of them could do both things. | It took {F} just as long. But they had time.""",
    """A Letter in a Bottle | The Message | What the River Brought

{H} was sitting by the river with {Pet}, {his} {pet}, when a bottle came floating by. | One {weather} {day}, {H} saw a bottle in the river.
There was a piece of paper in it. | Something white was inside.
{H} pulled it out with a long branch and opened it. | {He} waded into the water and caught it.
It was a letter. "{letter}" it said. | On the paper, someone had written: "{letter}"

{H} ran to show it to {M}, the {mjob}. | "Look what I found," {he} said to {M}, the {mjob}.
"{Capital}!" said {M}. "Do you know which country has a capital with this name?" | {M} read the letter twice. "That is a city far from here," {mhe} said. "Do you know the country?"
"{Country}," said {H}. | {H} thought of the map at school. "It must be {country}," {he} said.
"Right," said {M}. "So this bottle has come a long way." | "Very good," said {M}. "What a long journey for a bottle!"

That evening {H} wrote an answer. "My name is {H}," {he} wrote. "I live in Fernhill, and I have {a_pet} named {Pet}." | {H} sat down and wrote back about Fernhill, about {Pet}, and about {hobby}.
{He} put it in the bottle and threw it into the river. | The next morning {he} gave the bottle back to the river.
? Maybe somebody has found it by now. | ? {H} waited for {number} weeks. And then, one {day2}, another bottle came.""",
    """The Snow Day | No School Today | The House Without Smoke

All night long the snow had fallen, and in the morning it was as high as the tables. | When {H} woke up, the whole world was white, and it was so quiet that {he} could hear {his} own breath.
"No school today!" called {F} from the road. | The school stayed closed, because nobody could open its door.
{H} and {F} took the sled and walked toward the hill. | "To the hill!" said {H}, and {he} and {F} pulled the sled through the snow.
On the way, {H} stopped. "There is smoke above every house," {he} said, "but not above the house of {M}, the {mjob}." | They were almost there when {H} turned around. Smoke came out of every roof but one. "That is the house of {M}, the {mjob}," {he} said.
"Maybe {mhe} is still asleep," said {F}. "At noon?" asked {H}. | "Why is there no fire?" asked {F}. "It is so cold today!"
They went to look. The snow had covered the door from the bottom to the top. | When they came closer, they saw that the wind had blown a hill of snow against the door.

{H} knocked at the window. "I cannot get out," called {M}, "and all my wood is outside in the shed!" | "Are you in there?" called {F}. "Yes," called {M}, "but the door will not open, and I have no more wood for the fire!"
So they began to dig, first {H}, then {F}, then {H} again. | "Wait!" they called. "We will dig you out!" And they dug with a board and an old pan.
After an hour there was a path, {number} steps long. | They made a path of {number} steps, and then they could pull the door open.
They carried in wood from the shed, and soon a warm fire was burning. | {H} brought wood from the shed, {M} made a fire, and {F} dried {fhis} wet socks.
To thank them, {M} gave them {mgift}. | "I must give you something," said {M}, and put {mgift} on the table.

But now the sun was going down. "We did not ride the sled even once," said {F}. | When they came out of the house, it was getting dark. "Now it is too late for the hill," said {F}.
{M} put on {mhis} coat. "It is not too late," {mhe} said. "Look, the moon is full, and the snow is bright." | "Too late?" said {M}. "The best time is when the moon shines on the snow. I am coming with you."
So all three of them rode down the hill in the moonlight, and {M} laughed the loudest. | They rode down {number} times, and {M} wanted to sit in front every time.""",
    """The School Play | The Talking Tree | {H} Has a Small Part

The children of Fernhill were getting ready for the school play. It was about a lion that was afraid of the dark. | Every year the school had a play, and this year it was called "The Lion That Was Afraid of the Dark."
{M}, the {mjob}, who had written it, chose {G} for the lion. {H} wanted to be the lion too, but {he} had to be the tree. | "{G} will be the lion," said {M}, the {mjob}, who had written the play, "and {H} will be the tree."
{F}, who loved {fhobby}, {fplaypart}. | Everyone had something to do. {F}, who loved {fhobby}, {fplaypart}.
But the tree had nothing to do and nothing to say, and {H} was not happy about it. | "A tree only stands there," said {H}. "It does not say a word."
"You cannot have a forest without trees," said {M}. "And a tree hears everything." | "Then be a tree that listens," said {M}. "Trees have time."
So {H} stood still and listened, day after day, until {he} knew all the parts by heart. | Because {he} had nothing to say, {H} listened, and after {number} days {he} knew every word of the play.

On {day} evening the whole village came to see the play. | Then the great evening came, and the room was full of people.
The lion stepped out into the dark forest, and then {G} forgot the words. | But when the lion had to roar, {G} stood there and could not remember a single word.
It was very quiet. Somebody coughed. | One second went by, and then another. The lion looked at its paws.
Then, slowly, the tree lifted one of its branches. | All at once the leaves of the tree began to move.
"I know what you want to say, lion," said the tree. "You are afraid of the dark, and you want to ask the moon for help." | "Good evening, lion," said the tree. "I am old, and I have met many lions that were afraid of the dark. All of them asked the moon for help."
"Yes!" cried {G}. "That is what I wanted to say!" And now the words came back. | {G} took a deep breath. "Thank you, wise old tree," {ghe} said, and then {ghe} remembered the rest.
The people laughed and clapped, because they thought that it was part of the play. | Nobody in the room saw that anything had gone wrong.

"The tree! The tree!" called the people at the end, and {H} had to come out three times. | After the play, an old woman said, "The tree was the best of all. Who wrote its words?"
{G} put an arm around {H}. "Without you I would still be standing there," {ghe} said. | "You saved me," said {G}. "Next year you must be the lion."
"You see," said {M}, "there are no small parts." | {H} smiled. Next year, {he} thought, {he} would like to be a stone.""",
    """Lost in the Fog | The Needle | Which Way Is Home?

{H} and {F} had been at the lake all day. When they wanted to go home, a thick fog came. | On the way back from the lake, {H} and {F} walked into a thick fog.
They could not see the trees, and soon they could not see their own shoes. | It was as if somebody had painted the whole world white.
"I know the way," said {F}. "We only have to walk straight ahead." | "Follow me," said {F}. "I could find the way with my eyes closed."
Beside the path lay {a_junk}, but they had no time for that. | {F} stepped over something. It was {a_junk}, and they left it where it was.
They walked and walked. Then {H} stopped. "Look," {he} said. On the ground, once more, lay {a_junk}. | After half an hour, {H} saw something on the ground. It was {a_junk}, and it was the same one as before.
"We are back where we began," said {F}. "We have walked in a circle." | "Oh no," said {F}. "We have walked in a big circle!"
? That often happens to people who cannot see where they are going. | ? {H} was {trait}, but now even {he} was a little afraid.

Then {H} remembered the compass that {M}, the {mjob}, had given {him} for {his} birthday. | "Wait," said {H}, and put a hand into {his} pocket. There was the compass that {M}, the {mjob}, had lent {him}.
They bent over it and waited until the needle stopped moving. | The little needle turned left, turned right, and stood still.
"Fernhill lies north of the lake," said {H}, "and the needle points north. So we must go there." | "That way is north," said {H}, "and Fernhill lies north of the lake. That is where home is."
"But that is wrong!" said {F}. "I feel that we must go the other way." | {F} shook {fhis} head. "No, no," {fhe} said. "I am sure that it is over there."
"You can be sure and still be wrong," said {H}. "The needle does not guess." | "You were sure before," said {H} quietly, "and we walked in a circle."
So they went north, and every {number} steps they looked at the needle. | Hand in hand they walked north and did not take their eyes off the compass.

At last they heard the church bell of Fernhill. | Then there was a sound in the fog, soft at first and then louder. It was the church bell!
{M} was standing on the road with a lantern. | At the first house stood {M}, who had been looking for them.
"Which of you knew the way?" {mhe} asked. "Neither of us," said {F}. "The needle did." | "How did you find the way?" {mhe} asked. "{H} had the compass," said {F}, "and I had only my nose."
From that day on, {F} had a compass too. | When the fog was gone, they went back to the lake, and {F} counted the footprints of their circle.""",
    """The Late Book | {H} and the Library Book | What Lay Under the Bed

When {H} cleaned {his} room, {he} found a book under the bed. | {H} was looking for a lost sock when {he} found a book under {his} bed.
It was from the library, and {he} should have brought it back {number} weeks ago. | "Oh no!" {he} said. The book belonged to the library, and it was {number} weeks late.
{He} pushed it back under the bed. "If nobody sees it, nobody will ask," {he} thought. | {H} was ashamed, so {he} pushed it under the bed again, as far as it would go.

At school, {F} looked sad. "I want to read The Secret Island," {fhe} said, "but somebody has it and does not bring it back." | The next day, {F} told {him}, "Every {day} I ask for The Secret Island at the library. It is never there."
{H} turned red. The Secret Island was the book under {his} bed. | {H} said nothing. {He} knew very well where The Secret Island was.
That night {he} could not sleep. It was as if {he} were lying on the book. | That night {he} dreamed of an island where everybody looked at {him} and nobody spoke.
In the morning {he} took the book and went to Mrs. Page, the librarian. | On {day2}, {he} put the book under {his} coat and walked to the library, where Mrs. Page sat.
"First I forgot it, and then I hid it," {he} said. "I am sorry." | {He} put the book on the table. "It is my fault," {he} said. "First I forgot to bring it, and then I was afraid to come."
Mrs. Page looked at {him} over her glasses. | Mrs. Page did not speak at first, but Comma, her cat, jumped onto the table and smelled the book.
"It costs one coin a week," she said. "So you must pay {number} coins, or you can pay in another way." | "One coin for each week makes {number} coins," she said. "Do you have them?" {H} shook {his} head. "Then pay in another way," said Mrs. Page.
She pointed at the big chair. "Read this book to the small children on {day3} at {hour} o'clock." | She thought about it and smiled. "On {day3} at {hour} o'clock, you will sit in the big chair and read it to the little ones."

When {day3} came, {H} sat in the big chair, and at first {his} voice shook. | On {day3}, {number} small children sat on the floor and looked up at {H}.
But soon {he} was on the secret island, and all the children were there with {him}. | {He} read about the storm, and they held their breath. {He} read about the monkey, and they laughed.
In the last row sat {F} and listened with {fhis} mouth open. | {F} had come too, and {fhe} did not move until the end.
Then {H} gave {fhim} the book. "Now it is your turn," {he} said, "but bring it back in time." | Then Mrs. Page gave the book to {F}. "Two weeks," she said, and {H} had to laugh.
"May I read again next week?" asked {H}. "I do not owe you anything, but I like it." | After that, {H} came to read every week, not because {he} had to, but because {he} wanted to.""",
    """The Clock That Stopped | The Longest Afternoon | Something in the Tower

School in Fernhill ends when the big clock on the church strikes {clocknext}. | In Fernhill, nobody goes home from school before the clock on the church strikes {clocknext}.
On a sunny {schoolday}, {H} looked out of the window. The hands of the clock stood at {clock}. | One sunny {schoolday} in June, {H} looked up at the clock. It was {clock}.
{He} wrote, {he} read, {he} counted, and {he} looked again. It was still {clock}. | A long time later {he} looked again, and the clock still said {clock}.
? "This is the longest afternoon of my life," whispered {F}. | ? {F} had almost fallen asleep on {fhis} book.
"The shadow of the tree has moved across the whole yard," said {H}. "But the hands have not moved at all." | "The sun has moved," said {H}, "and the shadows are long. Only the clock has not moved."
Mr. Reed, the teacher, took out his watch and turned pale. "It is {clocknow} o'clock!" he said. | "You are right," said Mr. Reed, the teacher, and looked at his watch. "It is already {clocknow}."
"From {clock} to {clocknow}," said {F}. "Then the clock has been asleep for {clockgap} hours!" | "The clock says {clock}, and it is {clocknow}," said {F}. "So it is {clockgap} hours slow!"

{H} and {F} climbed up into the tower, where it was dark and full of dust. | "We will wake it up," said {H}, and {he} and {F} climbed the stairs of the tower, higher and higher.
There were many wheels, big ones and small ones, and none of them moved. | Up there they saw the wheels of the clock, and all of them stood still.
Between two wheels {H} found {a_junk}. | "Here!" called {F}, and pulled {a_junk} out from between two wheels.
"How did that get up here?" {H} asked. On the roof sat a crow and looked the other way. | Who had put it there? Nobody knew. But there were crows in the tower, and crows like to carry things.
At once the wheels began to turn. Tick, tock, tick, tock. | Tick, said the clock, and then tock, as if nothing had happened.
Then they moved the hands forward from {clock} to {clocknow}, one hour after the other. | {H} pushed the big hand around and around, until the clock showed {clocknow}.

Everything in Fernhill was late that day. The soup was cold and the bread was black, but nobody was angry. | All over the village, people looked up, cried, "So late?" and ran home to cook dinner.
"Tomorrow," said Mr. Reed, "you may sleep one hour longer." | And {H}? Since that day, {he} has asked {his} shadow first and the clock second.""",
    """The Last Apple | The Star in the Apple | Four Pieces

The apples were ripe, and {M}, the {mjob}, had asked {H}, {F}, and {G} to help. | One day in autumn, {H}, {F}, and {G} helped {M}, the {mjob}, with the apples.
They worked until evening, and {number} baskets were full. | They filled one basket, then another, until {number} baskets stood under the tree.
Only one apple was left. It hung at the very top of the tree, and it was the biggest of all. | When they looked up once more, one last apple hung there, big and round and red.
"I saw it first," said {H}, "so it is mine." | "That one is for me," said {H}. "I saw it before all of you."
{F} climbed up and brought it down. "I picked it," {fhe} said, "so it is mine." | But it was {F} who climbed up and got it. "If you pick it, you keep it," said {F}.
"And who held the ladder?" asked {G}. "It should be mine." | "Without me you would have fallen from the ladder," said {G}. "Give it to me!"
They grew louder and louder, and soon all three of them were angry. | Everyone talked, and nobody listened.

"And whose tree is it?" asked {M}. They looked at the ground and gave {mhim} the apple. | {M} held out {mhis} hand. "Give it to me," {mhe} said. "After all, it is my tree."
{Mhe} took a knife and cut the apple, but not from top to bottom. {Mhe} cut it across the middle. | Then {mhe} laid the apple on its side and cut it into two halves.
"Look!" cried {H}. In the middle of each half there was a star. | They bent over it. In each half they saw a little star with five points.
"I have eaten a hundred apples," said {F}, "and I never saw that." "You must cut them across," said {M}. | "Every apple has a star in it," said {M}, "but you see it only if you cut it like this."
Then {mhe} cut each half into two quarters, one for {H}, one for {F}, one for {G}, and one for {M}. | Each half was cut in half again. Two halves became four quarters, and so there was one for each of them.

It was the best apple of the whole tree. | They ate slowly, so that it would last.
{G} kept the seeds. "If we plant them," {ghe} said, "there will be enough for everyone one day." | "Next time," said {H}, "we can cut first and be angry later." But then nobody was angry anymore.""",
    """The White Line | The Tree House | {H} and {F} Have a Quarrel

{H} and {F} had built a tree house. | High up in the big oak, {H} and {F} had a house of their own.
There had not been enough boards, so the roof covered only one half of it. In the other half was the ladder. | In one half there was the ladder. Over the other half there was a roof, but only there, because they had run out of boards.
"This will be a place for {hobby}," said {H}. "No, for {fhobby}!" said {F}. | {H} wanted to use it for {hobby}, and {F} wanted to use it for {fhobby}.
One word led to another, and soon they were shouting. | They talked about it until they were both red in the face.
In the end they took a piece of chalk and drew a white line through the middle. | "Then we will divide it," said {H}, and drew a white line across the floor.
"Nobody may cross the line," said {F}. | "You stay on your side, and I stay on mine," said {F}.
So {H} had the ladder, and {F} had the roof. | {F} chose the half with the roof, and so {H} got the half with the ladder.

They sat there, back to back, and did not speak. | For a long time, {H} looked at the forest, and {F} looked at the river.
Then it began to rain, and {H} got wet. | Dark clouds came, and then the rain. It ran down {H}'s neck.
{F} sat under the roof and was dry, but {fhe} was hungry, and {fhe} could not get to the ladder. | {F} was dry, but from far away somebody called, "{F}! Dinner!" And the ladder was on the other side.
A drop hung from {H}'s nose. {F} saw it and had to bite {fhis} lip. | {F}'s stomach made a loud noise. {H} heard it and tried not to laugh.
"May I come under your roof?" asked {H}. "If I may use your ladder," said {F}. | "I will give you half of my roof for half of your ladder," said {F}. "What can you do with half a ladder?" asked {H}. "Take all of it."
Then they looked down. The line was gone. The rain had washed it away. | They wanted to wipe away the line, but the rain had already done it.

From then on it was a house for {hobby} on one day and a house for {fhobby} on the next. | "We were silly," said {H}. "Very silly," said {F}. On this they agreed.
? {M}, the {mjob}, gave them {number} boards, and now the roof covers the whole house. | ? The next week they built a second ladder, to be safe.""",
    """Where Has the Sea Gone? | The Boat on the Sand | Waiting for the Moon

On {day}, Mrs. Marsh, the fisher, took {H} and {F} out to sea in her boat. | "Who wants to come to the island?" asked Mrs. Marsh, the fisher. {H} and {F} sat in the boat before she could count to three.
They came to a small island and left the boat in the water near the beach. | On the beach of a small island they climbed out, and Mrs. Marsh tied the boat to a stone.
{H} and {F} ran around the island, collected shells, and ate {food}. | They built a castle out of sand, and then they shared {ffood}.
When they came back, the sea was gone! | But when they wanted to go home, the boat lay on dry sand, and the water was far away.

"Somebody has stolen the sea!" cried {F}. | "Where did all the water go?" asked {H}.
{H} pushed the boat and {F} pulled it, but it did not move. | They pushed with all their strength, but the boat was much too heavy.
"It is the tide," said Mrs. Marsh. "The moon pulls at the sea. Twice a day the water goes out, and twice a day it comes back." | "That was the moon," said Mrs. Marsh. "It pulls at the sea, so the water goes away and comes back. We call that the tide."
"Can we ask the moon to hurry?" asked {F}. "No," she said. "We can only wait." | "When will it come back?" asked {F}. "Before the evening," she said. "The moon is never late."
? Anchor, her dog, lay down in the shade. It had known this for a long time. | ? {H}, who was {trait}, had never waited for the moon before.
Mrs. Marsh took out her knife and began to carve a little fish out of wood. | Mrs. Marsh sat down on a rock and carved a piece of wood, because that was what she liked best.
{H} drew a line in the sand at the edge of the water. Soon the water was over it. {He} drew another line, and soon that one was gone too. | {F} put a stone at the edge of the water. After a while, the stone stood in the water, and then it was under the water. "It is coming!" cried {F}.

Wave after wave, the sea came up the beach, until it touched the boat. | First there was water on one side of the boat, and then there was water all around it.
Then the heavy boat began to move, and nobody had pushed it. | And then the sea picked up the heavy boat as if it were made of paper.
"You see," said Mrs. Marsh, "sometimes waiting is the strongest thing that you can do." | "Now you know who is stronger than all of us," said Mrs. Marsh.
They came home late, and the moon stood over the harbor. "Good evening, moon," said {H}, "and thank you for the water." | On the way home, {F} slept, and {H} held the wooden fish that Mrs. Marsh had made for {him}.""",
    """A Surprise for {M} | The Day When Nobody Had Time | {M} Is Sad

{M}, the {mjob}, got up on {day} and smiled, because it was {mhis} birthday. | On {day}, {M}, the {mjob}, put on {mhis} best {mcolor} hat. It was {mhis} birthday.
On the road {mhe} met {H}. "I have no time!" said {H}, and ran away. | {H} came by, hid something behind {his} back, and left without a word.
Then {mhe} met {F}, who had {mcolor} paint on {fhis} nose and was in a hurry. | At the {spot} {mhe} saw {F}. {F} had {mcolor} paint on {fhis} hands and did not want to talk.
"What is the matter with them?" thought {M}. | {M} looked after them and shook {mhis} head.
All day long, nobody came to {mhis} door. | At noon {mhe} ate alone, and in the afternoon {mhe} worked alone.
? Even {mhobby} was no fun that day. | ? {Mhe} tried {mhobby}, but {mhis} heart was not in it.
"They have forgotten me," said {M} to {Mpet}, {mhis} {mpet}. | "Nobody remembers what day it is," {mhe} said. Only {Mpet}, {mhis} {mpet}, looked at {mhim}.

When it was dark, somebody pushed a note under the door. "Please come to the {spot2} at once," it said. | In the evening there was a knock. Nobody was there, only a note on the ground: "Come to the {spot2}, please!"
{M} took {mhis} lantern and went, and {mhe} was worried. | "Has something happened?" thought {M}, and {mhe} ran all the way.
At the {spot2} it was dark and quiet. | But {mhe} saw nobody there. A twig cracked. Somebody laughed softly.
Then {number} lanterns were lit at once, and many voices called, "Happy birthday!" | "Happy birthday!" shouted a hundred voices, and suddenly there was light everywhere.
The whole village was there, and {H} held a big plate. "We made {mfood}," {he} said, "because we know what you love." | There was a long table, and on it stood {mfood}, the favorite food of {M}.
{F} had painted {a_mcolor} sign: "For the best {mjob} in the world." | Over the table hung {a_mcolor} sign that {F} had painted. It said: "We love our {mjob}."
"So that is why you ran away!" said {M}. | "And I thought that you had forgotten me!" said {M}.
"We are bad at keeping secrets," said {H}, "so we could not talk to you." | "We were so full of the secret," said {H}, "that we could not open our mouths."
{M} laughed, then cried a little, and then laughed again. | {M} had to wipe {mhis} eyes. "Next year," {mhe} said, "please forget me again." """,
    """The Flat Bread | A Mistake in the Kitchen | What {H} Forgot

"I will bake the bread for the feast on {day}," said {H}. | On {day} there was a feast at the {spot}, and {H} wanted to bring the bread.
{M}, the {mjob}, gave {him} a recipe. "Read every line of it," {mhe} said. | "Here is my recipe," said {M}, the {mjob}. "Go step by step, and do not jump."
{H} put flour, water, and salt into a bowl, but {he} was thinking of {hobby} all the time. | {He} mixed flour, water, and salt. But {his} hands were in the dough, and {his} head was busy with {hobby}.
So there was one line that {he} did not read. It was the line about the yeast. | And because {he} was not looking, {he} jumped over one line of the recipe, the one about the yeast.
{He} made {number} loaves and put them into the oven. | {He} shaped {number} loaves, and into the oven they went.
When they came out, they were as flat as plates. | "Now they will rise," {he} thought. But they did not. They came out as flat as a board.

"They are ruined!" said {H}, and {he} wanted to throw them away. | {H} was close to tears. "I cannot take these to a feast," {he} said.
{F} broke off a piece and ate it. "It does not look like bread," {fhe} said, "but it tastes good." | Just then {F} came in and tried a piece. "It looks like a plate," {fhe} said with a full mouth, "but it is a good plate."
"You forgot the yeast," said {M}. "Yeast fills the dough with tiny bubbles of gas, and that makes it rise." | {M} held one up and laughed. "There is no yeast in it. Without the bubbles of the yeast, bread cannot rise."
Then {mhe} tried it too. "In many countries people bake flat bread every day, and they love it," {mhe} said. | {Mhe} ate a piece and nodded. "Do not be sad. In many countries flat bread is no mistake. It is dinner."
Then {F} had an idea, and they put cheese and onions on top. | So they covered the flat loaves with cheese and tomatoes and put them back into the oven for a moment.

At the feast, all {number} loaves were gone before the music began. | On {day}, everyone wanted a piece, and then another piece.
"Can you bake it again next year?" asked {G}. | "This is the best thing on the table," said {G}. "How do you make it?"
"It is easy," said {H}. "You only have to think of {hobby}." | "I must try to remember," said {H}, "what I forgot." """,
    """The Bird That Would Not Fly | Two Brave Jumps | The {Bird} With the Broken Wing

After a storm, {H} found a {bird} in the grass. One of its wings was broken. | One {weather} {day}, {H} found a young {bird} under the big oak. It could not lift its left wing.
{He} put it into {his} {color} hat and carried it to Dr. Gray, the doctor. | Very carefully, {he} carried it to Dr. Gray, the doctor, in {his} {color} hat.
Dr. Gray tied a soft band around the wing. "The bone will grow together," she said, "but it takes time." | "The wing is broken, but it can heal," said Dr. Gray, and she tied a soft band around it.
For weeks, {H} gave the {bird} food and water and talked to it every evening. | {H} took care of it every day, and the two became friends.
"I will tell you a secret," {he} told it. "I cannot swim, and I am afraid of deep water." | Only the {bird} knew {his} secret. {H} was afraid of deep water and could not swim.

At last Dr. Gray took off the band. "It can fly again," she said. | Then the wing was well again, and Dr. Gray took off the band.
But the {bird} did not fly. It only sat there and looked down. | But the {bird} did not even open its wings.
"Why does it not fly?" asked {H}. "It is afraid to fall," said Dr. Gray. "Only the {bird} can change that." | "It thinks that it cannot do it," said Dr. Gray. "You can help it, but you cannot fly for it."
Every morning {H} took it to the lake and set it on a branch over the water. | So {H} brought it to the lake each day and put it on a low branch, while the other children swam.
"Come into the water!" called {F}. "Later," said {H}. | "Why do you never swim?" asked {F}. "I must watch the {bird}," said {H}. It was not the whole truth.
Then, on {day2}, the {bird} opened its wings. It shook. It jumped. | One morning, a warm wind came. The {bird} opened its wings and let go of the branch.
It fell, it beat its wings, and then it flew, over the lake, over the trees, and back again! | It almost touched the water, but its wings carried it up and up, until it sat on top of the highest tree!

{H} laughed and cried at the same time. Then {he} took off {his} shoes. | {H} looked up for a long time. "It was just as afraid as I am," {he} thought.
"{F}, will you stay next to me?" {he} called, and {he} went into the lake, one step, two steps, three steps. | "If it can do that, I can do this," {he} told {F}, and {he} walked into the lake.
{F} held {his} hands. "Kick your legs," {fhe} said, and then {fhe} let go. | {F} showed {him} how to lie on the water. "Now I will let go," {fhe} said.
{H} swallowed some water, {he} kicked, and {he} swam! | For a moment {H} was under the water. Then {he} came up, and {he} was swimming!
High up in its tree, the {bird} called, and it sounded like a cheer. | And above {his} head, the {bird} flew in circles, as if it wanted to see everything.""",
    """The Night the Mill Wheel Stopped | The Quiet Night | Who Took the Water?

The wheel of the old mill turned day and night, and everyone in Fernhill fell asleep by its sound. | The wheel of the old mill had turned for a hundred years, and nobody heard it anymore.
One night in {month}, {H} woke up because it was so quiet. | Then, one night, {H} sat up in bed. Something was wrong. {He} could hear nothing at all.
"The wheel has stopped!" {he} said. {He} put on {his} {color} coat and ran to the mill. | {He} opened the window. There was no splash and no creak. So {he} took a lantern and ran to the mill.
Mr. Wheatley, the miller, stood there with Gust, his goose, and {F} was there too. | There stood {F}, and there stood Mr. Wheatley, the miller, with his goose under his arm.
"The stream is almost dry," said Mr. Wheatley. "Without water there is no flour, and without flour there is no bread." | "Look at the stream," said Mr. Wheatley. "There is hardly any water in it, and the wheel cannot turn."
"But it has rained so much!" said {F}. "Who took the water?" | "Water does not just go away," said {H}. "We must find out who has it."

They walked along the stream, up into the forest. | With two lanterns they followed the stream, higher and higher into the forest.
Then they saw a wall of branches and mud, and behind it was a lake that had not been there before. | After {number} hundred steps they found a wall of branches across the stream, and behind it the water was deep.
Two brown heads looked out of the water. "Beavers!" whispered {H}. | Something brown swam through the light. "Those are beavers," said Mr. Wheatley, "and this is their dam."
"Shall we break the dam?" asked {F}. "No," said {H}. "They need deep water to be safe." | {F} wanted to break the dam. "But they live here," said {H}, "and they did not know about the mill."
So they made only a small hole. But the beavers heard the running water, came at once, and closed it. | They pulled out some branches, and the water ran. But after {number} minutes the beavers had closed the hole again.
"They come because they can hear the water," said {H}, who was {trait}. "So it must run without a sound." | {H} sat down and thought. "They close every hole that they can hear," {he} said. "What if they hear nothing?"
Mr. Wheatley brought a long pipe from the mill, and they pushed it through the dam, deep under the water. | They found an old pipe and put it through the dam, so deep that the water went in without any noise.
They waited. This time no beaver came. | The beavers listened, heard nothing, and swam away.

When they came back, the wheel was turning again, splash, creak, splash, creak. | Down in the valley, the wheel began to turn, slowly at first, and then as always.
"There is enough water for all of us," said Mr. Wheatley, "and there are enough muffins, too." | "Now they have their lake, and I have my flour," said Mr. Wheatley, and he gave each of them a warm muffin.
And in all the houses of Fernhill, people smiled and fell asleep. | One lamp after the other went out in Fernhill. Everyone could sleep again.""",
    """Whose Feet? | The Board That Was Too Short | {Number} Feet

{H}'s father needed a new shelf. "How long must it be?" asked {H}. | "I need a shelf for this wall," said {H}'s father. "Can you and {F} make one for me?"
{His} father walked along the wall, one foot right in front of the other. "{Number} feet," he said. | {His} father put one foot in front of the other and counted. "It must be {number} feet long," he said.
{H} and {F} went to the workshop of Mr. Wood, the carpenter, and found a good board. | Mr. Wood, the carpenter, gave {H} and {F} a board and let them use his saw.
{H} put one foot in front of the other, {number} times, and {F} drew a line. | Foot by foot, {H} walked along the board, and after {number} feet {F} drew a line.
Then they sawed, first {F}, then {H}, until the piece fell to the floor. | They sawed until their arms were tired, and then the board was ready.

But at home, the board was much too short for the wall. | Proudly they carried it home and held it against the wall. It was much too short!
"You counted wrong," said {F}. "I did not!" said {H}. "You sawed wrong!" | "I sawed where the line was," said {F}. "And I counted right," said {H}, "I am sure of it."
They were both angry when they came back to Mr. Wood. | They carried the board back to Mr. Wood and did not look at each other.
"How long should it be?" he asked. "{Number} feet," said {H}. "Whose feet?" asked Mr. Wood. | "It was {number} feet, and now it is too short," said {H}. Mr. Wood thought for a moment. "Whose feet?" he asked.
{H} looked down at {his} small shoes. Then {he} thought of {his} father's big boots. "Oh!" {he} said. | {H} and {F} looked at each other. "My father's feet!" cried {H}. "They are much bigger than mine!"
"Nobody was wrong," said Mr. Wood. "But you need something that is the same for everybody." | "You both worked well," said Mr. Wood. "But one foot is not as long as another."
He gave them a long ruler. "A centimeter is the same in your house, in my house, and in China." | And he showed them the ruler on his wall. "A meter is a meter," he said, "whoever uses it."

This time they measured the wall with the ruler, and the new shelf was just right. | They measured again with the ruler, they sawed again, and this time the board fit.
And the short board? It hangs over {H}'s bed and is full of books. | And the short board became a bench. Two children can sit on it, if they are good friends.""",
    """The Two Goats and the {Fabled} | The Narrow Bridge | After You

A narrow bridge lay over a cold stream. It was so narrow that only one could cross at a time. | Over a deep stream lay a bridge, and it was hardly wider than a board.
One {weather} morning, one goat came from the left, and another goat came from the right. | One day, two goats wanted to cross it, one from this side and one from that side.
In the middle they met. | They met in the middle, nose to nose.
"Go back," said the first goat. "I was here before you." "Never," said the second goat. | "Let me pass," said the first goat. "I am in a hurry." "So am I," said the second goat.
{A_fabled} sat beside the stream and saw it all. "If one of you goes back," it said, "you can both cross." | "Why do you not let each other pass?" called {a_fabled} from the grass.
"A goat does not go back!" cried both of them. | "Mind your own business," said the goats.
They lowered their heads and pushed. | They pushed, head against head, until the bridge shook.
Then one foot slipped, and another, and splash! Both goats were in the water. | There was a crack and a splash, and both of them lay in the cold stream.
They climbed out, wet and angry, each on the side from which it had come. | Wet and cold, they climbed out, and neither of them had crossed the bridge.

In the evening, the {fabled} wanted to cross. In the middle it met a hedgehog. | Later the {fabled} went over the bridge too. Halfway, a hedgehog came toward it.
"After you," said the {fabled}, and it went back {number} steps. | The {fabled} turned around, went back {number} steps, and let the hedgehog pass.
"That was kind of you," said the hedgehog, "but now you have to walk the same way twice." | "Thank you," said the hedgehog. "But is it not hard for you to go back?"
"It costs me {number} steps," said the {fabled}. "The goats paid with a bath." | "{Number} steps are not much," said the {fabled}. "I know two goats who lost a whole day."

The moral: if nobody steps back, nobody goes forward. | Sometimes the one who steps back is the first to arrive. | Since then, even the goats say "After you" when they meet.""",
    """The Bear and the {Fabled} | A Small Voice | The Promise

A bear lived in a cave beside the river. It was the strongest animal in the forest, and it knew that very well. | In a cave beside the river lived a bear, and all the other animals were afraid of it.
One {day}, {a_fabled} was looking for {fabledeats} and stepped on the nose of the bear. | One day, while the bear was asleep, {a_fabled} jumped over its nose and woke it up.
"Who is that?" roared the bear, and put its heavy paw on the {fabled}. | The bear caught it with one paw. "You are going to be sorry," it said.
"Let me go," said the {fabled}, "and one day I will help you." | "Please let me go," said the {fabled}. "If you are ever in danger, I will come. I promise it."
"You? Help me?" The bear laughed so hard that it lifted its paw, and the {fabled} was free. | "Help from you?" said the bear. "You are so small that I almost did not feel you!" But it laughed and let the {fabled} go.

In late autumn it rained for {number} days, and the river began to rise. | Then the great rain came. It fell for {number} days and {number} nights, and the water rose higher and higher.
All the animals went up the hill. Only the bear lay in its cave and slept, as bears do when it gets cold. | "To the hill!" called the animals. But the bear had begun its long winter sleep and did not hear them.
Halfway up the hill, the {fabled} stopped. "I made a promise," it said, and it turned around. | The {fabled} was already on the hill and safe. But then it thought of its promise and went back, all alone.
It called and called, but the bear did not wake up. | "Wake up!" it called into the cave. The bear slept on.
The water was already at the entrance of the cave. | Cold water was running into the cave.
So it jumped onto the nose of the bear, called as loud as it could, and jumped again. | So it did what it had done before. It jumped on the nose of the bear, once, twice, three times.
"Who is that?" roared the bear. Then it saw the water. | The bear woke up and was angry, until it felt that its feet were wet.
It took the {fabled} on its back, waded through the water, and climbed the hill. | "Sit on my back, quick!" it said, and it carried the {fabled} through the water and up to the hill.

"I laughed at you," said the bear, "and you came back." "I promised it," said the {fabled}. | From up there they watched the river fill the cave. "You are small," said the bear, "but your word is big."
The moral: nobody is too small to help. | And whenever the {fabled} is tired, it rides through the forest on the back of a bear. | Since then, the bear has never laughed at a promise.""",
    """Who Moved the {Thing}? | {H} Looks in the Wrong Place | The {Thing} That Walked Away

Before {he} went to the {spot}, {H} put {his} {color} {thing} {place}. | In the morning, {H} put {his} {color} {thing} {place}. Then {he} went away to the {spot}.
As soon as {he} was gone, {F} came and borrowed the {thing} for an hour. | While {he} was away, {F} came by and took the {thing}, because {fhe} wanted to show it to somebody.
When {fhe} brought it back, {fhe} had forgotten where it had been, so {fhe} put it {place2}. | Later {fhe} brought it back. But {fhe} did not remember the right place, and {fhe} put it {place2}.
{G} was sitting at the window and saw everything. | Nobody saw it but {G}, who was sitting on the fence.

"Where will {H} look for the {thing}?" asked {G}. "{Place2}, of course," said {F}. "That is where it is." | "{H} will find it at once," said {F}. "{He} only has to look {place2}."
"No," said {G}. "You know that, and I know that. But {H} does not know it." | {G} shook {ghis} head. "{H} was not here," {ghe} said. "{He} thinks that it is still {place}."
At {hour} o'clock {H} came back, and {he} looked {place}. | Then {H} came home. {He} did not think long, and {he} looked {place}.
"It is gone!" {he} cried. "Somebody has stolen my {thing}!" | No {thing} was there. "But I put it here!" {he} said. "I know that I did!"
{F} turned red. {G} had been right. | Now {F} understood what {G} had said, and {fhe} felt sorry.
"I borrowed it," {fhe} said, "and then I put it {place2}." | "It is my fault," said {F}. "Go and look {place2}."
{H} looked {place2}, and there was the {color} {thing}. | They went together, and there it was, {place2}, as good as new.

"How could I know that?" said {H}. "I was not here." | "You may borrow it again," said {H}, "but next time, tell me where it is."
The next day, a note lay {place}. "Your {thing} is {place2} again," it said. "Your friend {F}." | Since then, {F} has always put things back where they were. | "From now on I will write you a note," said {F}, and {fhe} did.""",
)

MORALS = (
    "It is good to be strong, but it is better to be clever.",
    "The moral: think first, and be afraid later.",
    "Since then the fox has been a little less sure of itself.",
    "The moral: do not believe everything that you hear.",
)

COINS_ENOUGH = (
    "{H} counted. {He} had {left} coins, and the {thing} cost {price2}, so {he} could buy it. {left} minus {price2} is {rest}. That was all that {he} had now.",
    "{H} had {left} coins. That was enough! {He} paid {price2} coins and kept {rest}.",
)
COINS_EXACT = ("{H} had {left} coins, just enough. Now {his} pocket was empty, but {he} was happy.",)
COINS_SHORT = (
    '{H} counted {his} {left} coins. It was not enough. "I will save my money," {he} said, "and come back."',
    '{H} had only {left} coins, and {price2} is more than {left}. So {he} could not buy it. "Another time," {he} thought.',
)

HOWTOS = (
    """How to make tea
To make tea, you need water, a cup, and tea leaves. | Tea is easy to make. | Here is how to make a good cup of tea.
1. Fill the kettle with cold water. | 1. Put fresh water into a kettle.
2. Heat the water until it boils. | 2. Put the kettle on the stove and wait until the water boils.
3. Put the tea leaves into a pot. | 3. Put one spoon of tea leaves into a warm pot.
4. Pour the hot water over the leaves. Be careful, because it is hot. | 4. Carefully pour the water into the pot.
5. Wait three minutes. | 5. Wait for three or four minutes.
6. Pour the tea into a cup. Add milk or honey if you like. | 6. Fill your cup and enjoy your tea.""",
    """How to plant a seed
You can grow a plant at home. | A seed needs soil, water, and light.
1. Fill a small pot with soil. | 1. Take a pot with a hole in the bottom and fill it with soil.
2. Make a hole with your finger. | 2. Press your finger into the soil to make a small hole.
3. Put the seed into the hole and cover it. | 3. Drop in one seed and cover it with a little soil.
4. Water it, but not too much. | 4. Give it some water, so that the soil is wet.
5. Put the pot near a window, where there is light. | 5. Find a warm, light place for the pot.
6. Wait. After one or two weeks you will see a green leaf. | 6. Be patient and keep the soil wet. Soon a leaf will appear.""",
    """How to wash your hands
Clean hands keep you healthy. | Wash your hands before you eat.
First, make your hands wet with warm water. | Begin with warm water on both hands.
Then take some soap. | Next, put soap on your hands.
Rub your hands together and count to twenty. | Rub them well, the front, the back, and between the fingers, for twenty seconds.
After that, wash off the soap with water. | Then hold them under the water until the soap is gone.
Last, dry your hands with a clean towel. | Finally, dry them well.""",
    """How to make bread
{M} of Fernhill makes bread like this. | This is how bread is made.
First, mix flour, water, salt, and yeast in a big bowl. | First, put flour, salt, yeast, and warm water into a bowl and mix them.
Second, press and fold the dough with your hands for ten minutes. | Second, work the dough with both hands until it is smooth.
Third, cover it and let it rest for an hour, until it is twice as big. | Third, let the dough rest in a warm place. It will grow.
Fourth, shape it into a loaf. | Fourth, make a round loaf out of it.
Fifth, bake it in a hot oven until it is brown. | Fifth, put it into the hot oven for about forty minutes.
Let the bread cool before you cut it. | Then comes the hardest part: wait until it is cool.""",
    """How to draw a cat
Take a pencil and a sheet of paper. | You need only a pencil and paper.
1. Draw a big circle for the body. | 1. Begin with a large circle. This is the body.
2. Draw a smaller circle on top for the head. | 2. Put a smaller circle above it. This is the head.
3. Add two triangles for the ears. | 3. On the head, draw two triangles. These are the ears.
4. Draw two eyes, a nose, and a mouth. | 4. Now draw the face: two eyes, a small nose, and a mouth.
5. Do not forget the whiskers, three on each side. | 5. Draw three long whiskers on the left and three on the right.
6. Last, add a long tail. Give your cat a name! | 6. Add a tail, and color your cat {color}, or any color you like.""",
    """How to cross the street
Streets can be dangerous, so follow these steps. | Always be careful near cars.
1. Stop at the edge of the street. | 1. Stop before you step onto the street.
2. Look left, look right, and look left again. | 2. Look to the left, then to the right, then to the left once more.
3. Listen for cars. | 3. Use your ears too. Can you hear a car?
4. If no car is coming, walk across. Do not run. | 4. When the street is empty, walk straight across.""",
    """How to take care of {a_pet}
{H} of Fernhill has {a_pet} named {Pet} and knows what to do. | This is what {H} does for {Pet}, the {pet}.
Give it fresh water every day. | A pet needs fresh water every morning.
Feed it at the same time each day. | Give it food, but not too much.
Keep its place clean. | Clean its place once a week or more.
Play with it, and leave it alone when it wants to rest. | Spend time with it every day, and be gentle.
If it is sick, go to an animal doctor. | When it does not want to eat, ask an animal doctor.""",
    """How to build a snowman
In winter, when there is enough snow, you can build a snowman. | You need snow, a carrot, and some pieces of coal.
1. Roll a big ball of snow. | 1. Make a small ball and roll it through the snow until it is big.
2. Roll a second ball, a little smaller, and put it on top. | 2. Make a second ball and lift it onto the first. A friend can help you.
3. The third ball is the head. It is the smallest. | 3. Put a small third ball on top for the head.
4. Use a carrot for the nose and coal for the eyes. | 4. Give it a carrot nose and two black eyes made of coal.
5. Give it a hat and {a_color} scarf. | 5. Put {a_color} scarf around its neck, so that it looks warm.
When the sun comes back, the snowman will melt, because snow turns into water when it is warm. | It will stay until the weather gets warm.""",
    """How to pack for a trip
Before you travel, make a list. | {H} is going on a trip to {capital}, the capital of {country}.
First, look at the weather. In cold places you need a coat. | First, find out if it will be hot or cold.
Then put your clothes on the bed, and take away half of them. | Then choose your clothes. You need fewer than you think.
Put the heavy things at the bottom of the bag and the light things on top. | Heavy things go down, and light things go on top.
Do not forget a toothbrush, a book, and something to eat. | Take a toothbrush, a map, and {food}.
Last, close the bag and lift it. If it is too heavy, start again. | At the end, check your list once more.""",
    """How to solve an equation
An equation like {eq} looks hard, but it is not. | What can we do with {eq}? We go step by step.
We want to know what x is. | The letter x stands for a number that we do not know yet.
First, take {eq_b} away from both sides. Then we have {eq_ax}. | Step 1: subtract {eq_b} on both sides. {eq_c} - {eq_b} = {eq_cb}, so {eq_ax}.
Now divide both sides by {eq_a}. | Step 2: divide both sides by {eq_a}. {eq_cb} / {eq_a} = {eq_x}.
So x is {eq_x}. | The answer is x = {eq_x}.
To be sure, we check it: {eq_a} times {eq_x} is {eq_cb}, and {eq_cb} plus {eq_b} is {eq_c}. That is right. | Check: {eq_a} * {eq_x} + {eq_b} = {eq_c}.""",
    """How to share a cake
Two friends and only one piece of cake? That can mean trouble, but there is an old trick. | {H} and {F} never quarrel about cake, because they share it like this.
1. One of you takes the knife and cuts the piece in two. | 1. Decide who will cut and who will choose. The first one cuts the piece in two.
2. Cut slowly, so that both halves are the same. | 2. The one who cuts should make both halves as equal as possible.
3. Now the other one may choose a half. | 3. The one who did not cut takes a piece first.
4. The one who cut the cake gets the half that is left. | 4. The last half is for the one with the knife.
Why is this fair? If you cut badly, you get the smaller piece yourself. | It works because the one who cuts wants both halves to be equal.
If two more friends come, cut each half in half again. Then there are four quarters. | For four people, cut each half into two quarters, so that everyone gets one.""",
    """How to tell how far away a storm is
Light is very fast, and sound is much slower. So you see the lightning first and hear the thunder later. | Lightning and thunder begin at the same moment, but the light gets to you before the sound does.
1. Go into a house. That is the safest place. | 1. Stay inside and look out of the window.
2. When you see the lightning, begin to count the seconds. | 2. Wait for the lightning. Then count slowly: one, two, three.
3. Stop when you hear the thunder. | 3. Count until the thunder comes.
4. Three seconds mean that the storm is about one kilometer away. | 4. Divide your number by three, and you know about how many kilometers away it is.
If you count to six, the storm is about two kilometers away. | If you count nine seconds, the storm is about three kilometers away.
Then count again. If the number gets smaller, the storm is coming closer. | Is the next number bigger? Then the storm is moving away.""",
    """How to find your way
If you know where north is, you cannot get lost. | {H} of Fernhill never gets lost, because {he} knows these four things.
1. The needle of a compass points north. Hold it flat, and keep it away from iron. | 1. Put a compass flat on your hand and wait until the needle stands still. It points north.
2. The sun rises in the east and sets in the west. | 2. In the morning the sun is in the east, and in the evening it is in the west.
3. At noon in Fernhill, the sun is in the south, and your shadow points north. | 3. At noon, look at your shadow. In Fernhill it points north.
4. On a clear night, look for the North Star. | 4. When it is dark, the North Star shows you where north is.
When you look north, east is on your right and west is on your left. | Now turn so that you look north. Behind you is south, on your right is east, and on your left is west.
And if there is fog, stay where you are, or walk slowly and trust the compass. | And if you are still lost, ask somebody. That works too.""",
    """How to make vegetable soup
On a cold day there is nothing better than hot soup. | {M}, the {mjob}, cooks this soup every {day}.
1. Wash three carrots, three potatoes, and an onion. | 1. Take an onion and some carrots and potatoes, and wash them well.
2. Cut them into small pieces. A grown-up can help you with the knife. | 2. Cut everything into small pieces. Keep your fingers away from the knife.
3. Put some butter into a big pot and cook the onion until it is soft. | 3. First cook the onion in a little butter. It will smell wonderful.
4. Add the rest and cover it with water. | 4. Then put everything into the pot and fill it with water.
5. Let it cook for twenty minutes. | 5. Wait until the potatoes are soft.
6. Add a little salt and taste it. You can always add more, but you cannot take it out. | 6. Taste it before you add salt, and taste it again after that.
Eat it with bread and with good friends. | Be careful, it is hot! {F} burned {fhis} tongue last time.""",
    """How to write a letter
A letter is a small gift that you can send. | You want to write to a friend who lives far away? It is not hard.
1. Write the date at the top. | 1. Take a sheet of paper and begin with the date.
2. Begin with "Dear" and the name, for example "Dear {F}." | 2. Then write "Dear {F}" or "Dear {M}" or whoever it is for.
3. Ask how your friend is. | 3. First ask your friend a question, so that you get an answer.
4. Tell what you have done and seen. Small things are good, too. | 4. Write about your day, about {hobby}, or about {Pet}, your {pet}.
5. At the end, write "Your friend" and your name. | 5. Last, write your own name under it.
6. Fold the paper, put it into an envelope, and write the address on it. | 6. Put it into an envelope with the right address on the front.
Do not forget the stamp! | Bring it to the post office, and then be patient.""",
    """How to say that you are sorry
Everybody makes mistakes. What counts is what you do next. | To say that you are sorry is hard, but it gets easier if you know how.
1. Wait until you are calm. | 1. Take three deep breaths first.
2. Go to the other person and look at them. | 2. Do not send somebody else. Go yourself.
3. Say what you did: "I broke your {thing}, and I am sorry." | 3. Say it in simple words, for example: "I laughed at you, and that was wrong."
4. Do not say that it was somebody else's fault. | 4. Do not say "but." After that word, nobody hears that you are sorry.
5. Ask how you can make it good, and then do it. | 5. Try to mend what is broken.
6. Give the other one time. Not everyone can smile again at once. | 6. If your friend is still angry, wait. Tomorrow is another day.""",
    """How to add big numbers
How much is {add_a} and {add_b} together? You do not have to count on your fingers. | {H} wants to know what you get for {add_a} and {add_b}.
Write one number under the other, so that the ones stand under the ones and the tens under the tens. | We begin on the right, with the ones, and then go to the tens.
Step 1: the ones. {add_a1} + {add_b1} = {add_ones}. | First, the ones: {add_a1} + {add_b1} = {add_ones}.
That is one ten and {add_one} ones, so write {add_one} and carry 1. | Write down the {add_one}, and keep the 1 in mind for the tens.
Step 2: the tens. {add_at} + {add_bt} = {add_t}, and with the 1 that we carried, we have {add_tens}. | Next, the tens: {add_at} + {add_bt} = {add_t}. Do not forget the 1! Now there are {add_tens} tens.
{add_tens} tens and {add_one} ones: the answer is {add_sum}. | So the answer is {add_sum}.
To be sure, take the second number away again: {add_sum} - {add_b} = {add_a}. That is right. | Together: {add_a} + {add_b} = {add_sum}.""",
    """How to make a sun clock
Before there were clocks, people looked at shadows. | You can tell the time with a stick and the sun.
1. Find a place where the sun shines all day. | 1. Look for a place without trees and houses.
2. Put a straight stick into the ground. | 2. Take a stick that is as long as your arm, and push it into the soil.
3. At nine o'clock, put a stone where the shadow of the stick ends. | 3. Ask somebody with a watch. When it is nine o'clock, mark the end of the shadow with a stone.
4. Do the same every hour until the evening. | 4. After an hour the shadow has moved. Put down another stone, and go on like this.
Around noon the shadow is the shortest. | You will see that the shadow is long in the morning, short at noon, and long again in the evening.
The next day, the shadow will go from stone to stone, and you can read the time. | Tomorrow the stones will tell you what time it is.
But if the sky is full of clouds, you need another clock. | At night, of course, this clock is asleep.""",
)

LETTERS = (
    """Dear {F},
how are you? I am fine. | thank you for your letter. I was so happy to read it. | today is {day}, and it is {weather} in Fernhill.
Yesterday I went to the {spot} with {Pet}, my {pet}. | On {day2} I was {hobby}, and it was wonderful. | I spent the whole day with {M}, the {mjob}.
In the meadow I saw {a_animal}. It was eating {eats}. | {M} told me something new: {planetfact}
My favorite color is still {color}, so I bought {a_color} {thing}. | Look what I made for you: a picture in {color}, my favorite color.
? Next week I want to start {fhobby}, just like you. | ? Do you still like {fhobby}?
Please write soon. | I hope to see you on {day3}. | Come and visit me in {month}.
Your friend,
{H}""",
    """{schoolday}, {month} {date}.
Dear diary, today was a good day. | Dear diary, today I was {mood}. | Dear diary, a lot happened today.
In the morning I ate {food} and went to school. | It was {weather}, so I went outside with {Pet}. | I got up early because {Pet}, my {pet}, woke me.
At school we learned something: {schoolfact} | Our teacher told us this: {schoolfact}
In the afternoon I played with {F} near the {spot}. | After school, {F} and I went to the {spot}, and we found {a_junk}.
? {F} likes {ffood}, but I like {food} better. | ? I do not know anyone as {ftrait} as {F}.
Now it is dark, and I am tired. | Tomorrow is {dayafter}, and who knows what it will bring. | I will write more tomorrow.
Good night. | Good night, diary. | Good night. {H}""",
    """My favorite color is {color}. | My favorite color is {color}, and I can tell you why.
I have {a_color} {thing} and {a_color} coat. | When I see something {color}, I feel {mood}. | My {thing} is {color} too.
And my friend {F}? The favorite color of {F} is {fcolor}. | I asked {F} too, and {fhe} said: {fcolor}.
My name is {H}, and I am {age} years old. | I am {H} from Fernhill.
I have {a_pet} named {Pet}. | At home I have {a_pet}. Its name is {Pet}.
I like to eat {food}, and I love {hobby}. | What I like most is {hobby}. And {food}!
What is your favorite color? | And you? What do you like?""",
    """To everyone in Fernhill: | NEWS FROM FERNHILL | Notice at the {spot}
On {day}, {month} {date}, there will be a feast near the {spot}. | {M}, the {mjob}, invites you to a feast on {day}.
There will be {food} and {ffood} for all. | Please bring something to eat. {H} will bring {food}, and {F} will bring {ffood}.
{H} will show us {hobby}, and {F} will show us {fhobby}. | Everyone may show what they can do. {H} is good at {hobby}.
The weather will be {weather}. | If it rains, we will meet at the house of {M}.
? {Pet}, the {pet}, will also be there. | ? Please do not feed {Pet}, the {pet}.
Come at {hour} o'clock. | It begins at {hour} o'clock and ends when the food is gone.""",
    """To everyone in Fernhill: the weather for {day} and {tomorrow} | THE WEATHER IN FERNHILL | What will the weather be like?
Old Ida, the shepherd, looked at the sky and told us this. | Old Ida says that she feels it in her knees.
{day}: {sky}. {Skynews}
{tomorrow}: {sky2}. {Skynews2}
? After that, nobody knows. | ? About {day3} we know nothing yet.
If we are wrong, please be kind. It is only the weather. | Last month we were right on {double} days. | Do not forget: every kind of weather is good for something.""",
    """{H}'s school notebook, {schoolday}, {month} {date}. | From the notebook of {H}. {Month} {date}. | What I learned at school on {schoolday}.
Mr. Reed drew the sun on the board, and around it eight circles. "These are the paths of the planets," he said. | Today Mr. Reed told us about the sky.
I wrote this down: {planetfact} | {F} asked about {planet}. Mr. Reed told us: {planetfact}
Then {G} asked why the moon shines. It does not burn, it only sends us the light of the sun. | We also learned that the moon has no light of its own. The sun shines on it, and that is what we see.
After that we learned something else: {schoolfact} | On the board he wrote: {schoolfact} We had to write it three times.
? {F} looked out of the window and had to say it again. | ? I knew that already, because I read it in a book.
At the end there was a riddle: "{riddle}" I was the first who knew it. It is {riddle_answer}. | For the last five minutes we guessed riddles. "{riddle}" The answer is {riddle_answer}, but nobody found it.
Homework: draw {a_animal} and write three sentences about it. | Homework: write down what you see in the sky tonight. | No homework today!""",
    """Dear {F}, please go to the market for me. I need these things: | Shopping list for {day}: | For {F}, who is so kind and goes to the market today:
- {item}
- {item2}
- {item3}
? - {item4}
- something {color} for {Pet}, my {pet} | - {a_color} candle | - {color} wool, if they have it
Here are {coins} coins. You will have to pay {price}, so {left} will be left. | I gave you {coins} coins. Everything together costs {price}, so please bring me {left} coins back.
If you see {M}, the {mjob}, say hello from me. | Please do not buy {ffood} for all the money! I know you.
When you come back, there will be {food}. | Thank you! As a reward I will help you with {fhobby}.
{H}""",
)

MOODS = ("happy", "glad", "proud", "calm", "tired but happy", "brave", "cheerful")
PLACES = ("under the bed", "behind the barn", "in the hay", "on the roof of the shed", "behind the old oak", "in the kitchen", "under the bridge",
    "in the empty barrel", "beside the well", "in the apple tree", "under the stairs", "behind the mill", "in the boat", "next to the stove",
    "in the big basket", "behind the church", "among the tall flowers", "in the tool shed")  # fmt: skip
SPOTS = (
    "old mill",
    "well",
    "river",
    "market",
    "school",
    "stone bridge",
    "lake",
    "church",
    "big oak",
    "forest",
    "windmill",
    "harbor",
    "library",
    "hill",
)
JUNK = ("old shoe", "rusty key", "gray feather", "broken cup", "wooden spoon", "ball of wool", "round stone", "torn map", "tin box", "lost glove")
THINGS = ("scarf", "hat", "cup", "spoon", "book", "lamp", "ball", "boat", "drum", "pencil", "bag", "kite", "mitten", "whistle", "bell")
GOODS = ("bread", "cheese", "eggs", "flour", "honey", "butter", "apples", "carrots", "fish", "potatoes", "salt", "wool")
WEATHERS = ("sunny", "cold", "windy", "warm", "foggy", "rainy", "bright", "cloudy")
STORY_ANIMALS = ("rabbit", "hedgehog", "squirrel", "deer", "goat", "duck", "goose", "mouse", "sheep", "crow", "frog", "swan")
FABLE_ANIMALS = ("rabbit", "squirrel", "duck", "goose", "mouse", "crow", "frog", "hen")
BIRDS = ("sparrow", "robin", "pigeon", "crow")
GIFTS = {  # what a grown-up gives to someone who has helped
    "baker": "a warm loaf of bread",
    "teacher": "a book full of pictures",
    "doctor": "two cups of hot milk with honey",
    "farmer": "a bag of big potatoes",
    "fisher": "two fresh fish",
    "carpenter": "a little horse made of wood",
    "librarian": "a book about snow and ice",
    "gardener": "a bag of seeds for the spring",
    "tailor": "two pairs of warm mittens",
    "potter": "two cups that were still warm from the oven",
    "blacksmith": "an iron bell for the sled",
    "miller": "a plate of muffins",
    "shepherd": "two balls of soft wool",
    "beekeeper": "a big jar of honey",
}
PLAY_PARTS = {  # what somebody with this hobby does in the school play
    "painting": "painted a dark forest on an old sheet",
    "climbing trees": "climbed up to the roof and hung the moon from it",
    "reading": "sat behind the curtain with the book in case somebody needed help",
    "catching tadpoles": "played the frog king and jumped higher than any frog",
    "solving puzzles": "found out how to make the moon rise with a string and two wheels",
    "drawing maps": "drew the map that the lion needs for its journey",
    "knitting": "made a long yellow tail for the lion out of wool",
    "building boats": "built a boat that could roll across the floor",
    "telling jokes": "played the parrot and told a new joke every day",
    "running races": "played the wind and ran around the lion three times",
    "picking flowers": "covered the floor of the forest with flowers",
    "watching the stars": "cut stars out of paper and put them all in the right places",
    "collecting stones": "shook a box full of stones to make the thunder",
    "singing": "sang the song of the moon",
    "growing beans": "brought ten tall bean plants for the forest",
    "playing the drum": "played the drum whenever the lion came in",
}
FORECASTS = (
    ("rain from morning to evening", "Mr. Moss is happy, because he does not have to water his roses."),
    ("strong wind from the west", "Mrs. Marsh will leave her boat in the harbor, but Mr. Wheatley will fly his biggest kite."),
    ("thick fog in the valley", "Dr. Gray will leave her bicycle at home, and so should you."),
    ("sunshine all day", "Mr. Honeywell's bees will be busy, so please walk around the hives."),
    ("a thunderstorm in the afternoon", "Old Ida will bring her sheep down from the hills before noon."),
    ("clouds, but no rain", "Mr. Hill will cut the hay and hope that it stays dry."),
    ("a clear sky, day and night", "Finn will sit on the hill after dark and watch the stars."),
    ("cold air from the north", "Mrs. Thread still has some warm mittens."),
    ("hot and dry", "Mr. Clay will put his pots outside, where the sun can dry them."),
    ("a little rain, then a little sun", "Look for a rainbow over the mill. Nora wants to paint it."),
)
SHOPPING = (
    "two loaves of bread",
    "a piece of cheese",
    "six eggs",
    "a bag of flour",
    "a jar of honey",
    "some butter",
    "five apples",
    "ten potatoes",
    "four carrots",
    "three onions",
    "a fresh fish",
    "some salt",
    "a box of nails",
    "a bag of beans",
    "a bottle of milk",
)
PLANET_FACTS = {
    "Mercury": ("Mercury is the smallest planet and the nearest to the sun.", "Mercury has no moon."),
    "Venus": ("Venus is the hottest planet.", "Venus is almost as big as Earth, but its air is full of thick clouds."),
    "Mars": ("Mars is red because there is rust in its soil.", "Mars has two small moons."),
    "Jupiter": ("Jupiter is the biggest of all the planets.", "Jupiter has a great red storm that is bigger than Earth."),
    "Saturn": ("Saturn has wide rings made of ice and rock.", "Saturn is so light for its size that it would float on water."),
    "Uranus": ("Uranus lies on its side as it goes around the sun.", "Uranus is a cold planet and looks blue-green."),
    "Neptune": ("Neptune is the farthest planet from the sun.", "Neptune is cold, dark, and very windy."),
    "Earth": ("Earth has one moon.", "Earth is the only planet where we know that there is life."),
}
RIDDLES = (
    ("I have a face and two hands, but no legs. What am I?", "a clock"),
    ("I have teeth, but I cannot bite. What am I?", "a comb"),
    ("I fall in winter, and I am white and cold. What am I?", "snow"),
    ("I get wet while I dry you. What am I?", "a towel"),
    ("I have keys, but I open no door. What am I?", "a piano"),
    ("I have a neck, but no head. What am I?", "a bottle"),
    ("I go up and down, but I never move. What am I?", "the stairs"),
    ("I am full of holes, but I can hold water. What am I?", "a sponge"),
    ("I follow you all day, and in the dark I am gone. What am I?", "a shadow"),
    ("I have many pages, but I am not a tree. What am I?", "a book"),
    ("I have one eye, but I cannot see. What am I?", "a needle"),
    ("The more you take from me, the bigger I get. What am I?", "a hole"),
    ("I have a bed, but I never sleep. I run, but I have no legs. What am I?", "a river"),
    ("I give you milk, and I say moo. What am I?", "a cow"),
    ("I am yellow, and monkeys love me. What am I?", "a banana"),
    ("I shine at night, and sometimes I am round. What am I?", "the moon"),
)
